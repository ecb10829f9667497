#include "clp_values.hh"

#include "kv/kernels/vector_target.hh"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kv/codec/clp_values.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kv::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr std::int64_t kLanes = SymbolPlan::kLanes;
constexpr std::uint8_t kZero = 128;  // as a quad has it

using Lanes = hn::CappedTag<std::uint8_t, kLanes>;
template <typename T>
using FourRows = std::array<T*, 4>;

// Four rows of 32 values as 32 times four of a quad, and back.
HWY_INLINE void join_rows(const FourRows<const std::int8_t>& rows, std::uint8_t* quads) {
  const Lanes d;
  const auto flip = hn::Set(d, kZero);
  const auto row = [&](std::size_t r, std::int64_t lane) HWY_ATTR {
    return hn::Xor(hn::LoadU(d, reinterpret_cast<const std::uint8_t*>(rows[r] + lane)), flip);
  };
  for (std::int64_t i = 0; i < kLanes; i += static_cast<std::int64_t>(hn::Lanes(d))) {
    hn::StoreInterleaved4(row(0, i), row(1, i), row(2, i), row(3, i), d, quads + 4 * i);
  }
}

HWY_INLINE void split_rows(const std::uint8_t* quads, const FourRows<std::int8_t>& rows) {
  const Lanes d;
  const auto flip = hn::Set(d, kZero);
  for (std::int64_t i = 0; i < kLanes; i += static_cast<std::int64_t>(hn::Lanes(d))) {
    hn::Vec<Lanes> of[4];
    hn::LoadInterleaved4(d, quads + 4 * i, of[0], of[1], of[2], of[3]);
    for (std::size_t r = 0; r < 4; ++r) {
      hn::StoreU(hn::Xor(of[r], flip), d, reinterpret_cast<std::uint8_t*>(rows[r] + i));
    }
  }
}

// Where the values of four coefficients and a group lie; `spare` for one that has none there.
template <typename T>
HWY_INLINE FourRows<T> rows_at(const SymbolPlan& plan, std::int64_t quad, std::int64_t group,
                               T* values, T* spare) {
  FourRows<T> rows;
  for (std::size_t r = 0; r < 4; ++r) {
    const SymbolPlan::Row& row = plan.row(4 * quad + static_cast<std::int64_t>(r));
    rows[r] = group < row.groups ? values + (row.first_step + group) * kLanes : spare;
  }
  return rows;
}

inline std::int64_t groups_of(const SymbolPlan& plan, std::int64_t quad) {
  std::uint32_t most = 0;
  for (std::int64_t r = 0; r < 4; ++r) most = std::max(most, plan.row(4 * quad + r).groups);
  return most;
}

void PlaceValues(const SymbolPlan& plan, const std::int8_t* values, Quads& out) {
  alignas(64) const std::array<std::int8_t, kLanes> zeros{};
  alignas(64) std::array<std::uint8_t, 4 * kLanes> joined;
  const std::size_t row_bytes = static_cast<std::size_t>(out.row_tokens()) * 4;
  const bool all = std::ssize(plan.order()) == out.row_tokens();
  for (std::int64_t q = 0; q < (plan.used() + 3) / 4; ++q) {
    std::uint8_t* to = out.quad(q);
    const std::int64_t groups = groups_of(plan, q);
    if (!all || groups < plan.groups()) std::memset(to, kZero, row_bytes);
    for (std::int64_t group = 0; group < groups; ++group) {
      const auto rows = rows_at(plan, q, group, values, zeros.data());
      if (const std::int64_t first = plan.straight_from(group); first >= 0) {
        join_rows(rows, to + 4 * first);
        continue;
      }
      join_rows(rows, joined.data());
      const std::span<const std::uint16_t> lanes = plan.lanes(group);
      HWY_UNROLL(8)
      for (std::size_t i = 0; i < lanes.size(); ++i) {
        std::memcpy(to + 4 * lanes[i], joined.data() + 4 * i, 4);
      }
    }
  }
}

void TakeValues(const SymbolPlan& plan, const Quads& from, std::int8_t* values) {
  alignas(64) std::array<std::int8_t, kLanes> spare;
  alignas(64) std::array<std::uint8_t, 4 * kLanes> joined;
  for (std::int64_t q = 0; q < (plan.used() + 3) / 4; ++q) {
    const std::uint8_t* quads = from.quad(q);
    const std::int64_t groups = groups_of(plan, q);
    for (std::int64_t group = 0; group < groups; ++group) {
      const auto rows = rows_at(plan, q, group, values, spare.data());
      if (const std::int64_t first = plan.straight_from(group); first >= 0) {
        split_rows(quads + 4 * first, rows);
        continue;
      }
      const std::span<const std::uint16_t> lanes = plan.lanes(group);
      HWY_UNROLL(8)
      for (std::size_t i = 0; i < lanes.size(); ++i) {
        std::memcpy(joined.data() + 4 * i, quads + 4 * lanes[i], 4);
      }
      std::fill(joined.begin() + 4 * lanes.size(), joined.end(), kZero);  // lanes that stay idle
      split_rows(joined.data(), rows);
    }
  }
}

void ClearUncoded(const SymbolPlan& plan, std::span<const std::int32_t> places,
                  Quads& coefficients) {
  const hn::CappedTag<std::int32_t, 16> d;
  const auto zeros = hn::Set(d, static_cast<std::int32_t>(0x80808080u));
  for (std::int64_t q = 0; q < (plan.used() + 3) / 4; ++q) {
    auto* quads = reinterpret_cast<std::int32_t*>(coefficients.quad(q));
    const auto coded = [&](std::int64_t r) HWY_ATTR {
      return hn::Set(d, static_cast<std::int32_t>(plan.row(4 * q + r).groups * kLanes));
    };
    const auto first = coded(0), second = coded(1), third = coded(2), fourth = coded(3);
    for (std::size_t t = 0; t < places.size(); t += hn::Lanes(d)) {
      const auto place = hn::LoadU(d, places.data() + t);
      const auto beyond = [&](auto most, std::uint32_t byte) HWY_ATTR {
        return hn::IfThenElseZero(hn::Not(hn::Lt(place, most)),
                                  hn::Set(d, static_cast<std::int32_t>(byte)));
      };
      const auto cleared = hn::Or(hn::Or(beyond(first, 0xFFu), beyond(second, 0xFF00u)),
                                  hn::Or(beyond(third, 0xFF0000u), beyond(fourth, 0xFF000000u)));
      const auto kept = hn::AndNot(cleared, hn::LoadU(d, quads + t));
      hn::StoreU(hn::Or(kept, hn::And(cleared, zeros)), d, quads + t);
    }
  }
}

void FindBeyond(std::span<const RansStep> steps, const std::int8_t* values,
                std::span<const std::int8_t> most, std::vector<std::uint32_t>& found) {
  const hn::CappedTag<std::int8_t, kLanes> d;
  for (std::size_t i = 0; i < steps.size(); ++i, values += kLanes) {
    const auto limit = hn::Set(d, most[steps[i].table]);
    auto any = hn::Zero(d);
    for (std::int64_t lane = 0; lane < kLanes; lane += static_cast<std::int64_t>(hn::Lanes(d))) {
      any = hn::Max(any, hn::Abs(hn::LoadU(d, values + lane)));
    }
    if (!hn::AllFalse(d, hn::Gt(any, limit))) found.push_back(static_cast<std::uint32_t>(i));
  }
}

}  // namespace kv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kv {
void place_values(const SymbolPlan& plan, const std::int8_t* values, Quads& out) {
  KV_VECTOR_VARIANTS(PlaceValues).chosen()(plan, values, out);
}
void take_values(const SymbolPlan& plan, const Quads& from, std::int8_t* values) {
  KV_VECTOR_VARIANTS(TakeValues).chosen()(plan, from, values);
}
void clear_uncoded(const SymbolPlan& plan, Quads& coefficients) {
  // Of each token its place among those that have symbols; the others stand behind all.
  std::vector<std::int32_t> places(static_cast<std::size_t>(coefficients.row_tokens()),
                                   std::numeric_limits<std::int32_t>::max());
  for (std::size_t i = 0; i < plan.order().size(); ++i) {
    places[plan.order()[i]] = static_cast<std::int32_t>(i);
  }
  KV_VECTOR_VARIANTS(ClearUncoded).chosen()(plan, places, coefficients);
}
void find_beyond(std::span<const RansStep> steps, const std::int8_t* values,
                 std::span<const std::int8_t> most, std::vector<std::uint32_t>& found) {
  KV_VECTOR_VARIANTS(FindBeyond).chosen()(steps, values, most, found);
}
}  // namespace kv
#endif
