#include "clp_forward.hh"

#include "kv/kernels/vector_target.hh"

#include <algorithm>
#include <bit>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kv/codec/clp_forward.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kv::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
using Ints = hn::CappedTag<std::int32_t, 16>;

#if HWY_TARGET == HWY_SCALAR
inline float float_at(const float* at) { return *at; }
inline float float_at(const std::uint16_t* at) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(*at) << 16);
}
template <typename T>
void rest_of(const RestJob& job) {
  const T* rows = static_cast<const T*>(job.rows);
  for (std::int64_t c = 0; c < job.channels; ++c) {
    for (std::int64_t t = 0; t < job.tokens; ++t) {
      const float p =
          job.predicted ? static_cast<float>(job.predicted[c * job.predicted_stride + t]) : 0.0f;
      job.out[c * job.tokens + t] =
          float_at(rows + t * job.channels + c) - job.mean[c] - p * job.unit[c];
    }
  }
}
#else
HWY_INLINE hn::Vec<hn::FixedTag<float, 4> > four_at(const float* at) {
  return hn::LoadU(hn::FixedTag<float, 4>(), at);
}
HWY_INLINE hn::Vec<hn::FixedTag<float, 4> > four_at(const std::uint16_t* at) {
  const auto bits = hn::PromoteTo(hn::FixedTag<std::uint32_t, 4>(),
                                  hn::LoadU(hn::FixedTag<std::uint16_t, 4>(), at));
  return hn::BitCast(hn::FixedTag<float, 4>(), hn::ShiftLeft<16>(bits));
}

// Four tokens by four channels at a time: the rest costs more than wider vectors would save.
template <typename T>
void rest_of(const RestJob& job) {
  const T* rows = static_cast<const T*>(job.rows);
  const hn::FixedTag<float, 4> d;
  const hn::FixedTag<std::int32_t, 4> ints;
  const hn::FixedTag<double, 2> pairs;
  const auto low = [&](auto a, auto b) {
    return hn::BitCast(d, hn::InterleaveLower(pairs, hn::BitCast(pairs, a), hn::BitCast(pairs, b)));
  };
  const auto high = [&](auto a, auto b) {
    return hn::BitCast(d, hn::InterleaveUpper(pairs, hn::BitCast(pairs, a), hn::BitCast(pairs, b)));
  };
  for (std::int64_t c = 0; c < job.channels; c += 4) {
    const float* mean = job.mean + c;
    const float* unit = job.unit + c;
    for (std::int64_t t = 0; t < job.tokens; t += 4) {
      const T* row = rows + t * job.channels + c;
      const auto r0 = four_at(row), r1 = four_at(row + job.channels);
      const auto r2 = four_at(row + 2 * job.channels), r3 = four_at(row + 3 * job.channels);
      const auto a = hn::InterleaveLower(d, r0, r1), b = hn::InterleaveLower(d, r2, r3);
      const auto e = hn::InterleaveUpper(d, r0, r1), f = hn::InterleaveUpper(d, r2, r3);
      const hn::Vec<decltype(d)> of[4] = {low(a, b), high(a, b), low(e, f), high(e, f)};
      for (std::int64_t i = 0; i < 4; ++i) {
        auto rest = hn::Sub(of[i], hn::Set(d, mean[i]));
        if (job.predicted) {
          const auto p = hn::LoadU(ints, job.predicted + (c + i) * job.predicted_stride + t);
          rest = hn::Sub(rest, hn::Mul(hn::ConvertTo(d, p), hn::Set(d, unit[i])));
        }
        hn::StoreU(rest, d, job.out + (c + i) * job.tokens + t);
      }
    }
  }
}
#endif

void RestByChannel(const RestJob& job) {
  if (job.bf16) {
    rest_of<std::uint16_t>(job);
  } else {
    rest_of<float>(job);
  }
}

// Two vectors of tokens by kRows coefficients stay in registers.
template <std::int64_t kRows>
void rows_by_two(const float* matrix, std::int64_t channels, const float* in, std::int64_t stride,
                 float* out) {
  const Floats d;
  using V = hn::Vec<decltype(d)>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  V a[kRows], b[kRows];
  for (std::int64_t r = 0; r < kRows; ++r) a[r] = b[r] = hn::Zero(d);
  for (std::int64_t c = 0; c < channels; ++c) {
    const V x = hn::LoadU(d, in + c * stride), y = hn::LoadU(d, in + c * stride + lanes);
    for (std::int64_t r = 0; r < kRows; ++r) {
      const V weight = hn::Set(d, matrix[r * channels + c]);
      a[r] = hn::MulAdd(weight, x, a[r]);
      b[r] = hn::MulAdd(weight, y, b[r]);
    }
  }
  for (std::int64_t r = 0; r < kRows; ++r) {
    hn::StoreU(a[r], d, out + r * stride);
    hn::StoreU(b[r], d, out + r * stride + lanes);
  }
}

void ForwardTransform(const float* matrix, std::int64_t channels, const float* in,
                      std::int64_t tokens, float* out) {
  const Floats d;
  const std::int64_t width = 2 * static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t t = 0; t < tokens; t += width) {
    for (std::int64_t k = 0; k < channels; k += 4) {
      rows_by_two<4>(matrix + k * channels, channels, in + t, tokens, out + k * tokens + t);
    }
  }
}

void SplitRest(const SplitJob& job) {
  const Floats d;
  const Ints ints;
  const hn::CappedTag<std::uint32_t, 16> words;
  constexpr float kMost = 127.0f * 128.0f, kLeast = 1e-30f;
  for (std::int64_t t = 0; t < job.tokens; t += static_cast<std::int64_t>(hn::Lanes(d))) {
    // As bits: NaN is above infinity, and a maximum of floats would lose it.
    auto bits = hn::Zero(ints);
    for (std::int64_t c = 0; c < job.channels; ++c) {
      const auto x =
          hn::Mul(hn::LoadU(d, job.rest + c * job.tokens + t), hn::Set(d, job.inverse_width[c]));
      bits = hn::Max(bits, hn::BitCast(ints, hn::Abs(x)));
    }
    const auto most = hn::BitCast(d, bits);
    const auto finite = hn::RebindMask(d, hn::Lt(bits, hn::Set(ints, 0x7F800000)));
    const auto usable = hn::And(finite, hn::Gt(most, hn::Set(d, kLeast)));
    const auto scale = hn::IfThenElseZero(usable, hn::Div(most, hn::Set(d, kMost)));
    const auto inverse = hn::IfThenElseZero(usable, hn::Div(hn::Set(d, kMost), most));
    hn::StoreU(hn::IfThenElse(finite, scale, hn::NaN(d)), d, job.scale + t);
    for (std::int64_t c = 0; c < job.channels; c += 4) {
      auto high = hn::Zero(ints), low = hn::Zero(ints);
      for (std::int64_t i = 4; i-- > 0;) {
        const auto width = hn::Set(d, job.inverse_width[c + i]);
        const auto x =
            hn::Mul(hn::Mul(hn::LoadU(d, job.rest + (c + i) * job.tokens + t), width), inverse);
        const auto n = hn::NearestInt(x);
        const auto h = hn::ShiftRight<7>(hn::Add(n, hn::Set(ints, 64)));
        const auto l = hn::Sub(n, hn::ShiftLeft<7>(h));
        const auto byte = hn::Set(ints, 255), middle = hn::Set(ints, 128);
        high = hn::Or(hn::ShiftLeft<8>(high), hn::And(hn::Add(h, middle), byte));
        low = hn::Or(hn::ShiftLeft<8>(low), hn::And(hn::Add(l, middle), byte));
      }
      const std::int64_t at = (c * job.tokens) + 4 * t;
      hn::StoreU(hn::BitCast(words, high), words, reinterpret_cast<std::uint32_t*>(job.high + at));
      hn::StoreU(hn::BitCast(words, low), words, reinterpret_cast<std::uint32_t*>(job.low + at));
    }
  }
}

void JoinSums(const JoinJob& job) {
  const Floats d;
  const Ints ints;
  const auto factor = hn::Set(d, 128.0f);
  for (std::int64_t t = 0; t < job.tokens; t += static_cast<std::int64_t>(hn::Lanes(d))) {
    const auto token_scale = hn::LoadU(d, job.scale + t);
    auto largest = hn::Zero(ints);
    for (std::int64_t k = 0; k < job.channels; ++k) {
      const std::int64_t at = k * job.tokens + t;
      const auto high = hn::ConvertTo(d, hn::LoadU(ints, job.high + at));
      const auto mixed = hn::ConvertTo(d, hn::LoadU(ints, job.mixed + at));
      const auto sum = hn::Add(hn::Mul(high, factor), mixed);
      const auto x = hn::Mul(sum, hn::Mul(hn::Set(d, job.row_scale[k]), token_scale));
      hn::StoreU(x, d, job.out + at);
      largest = hn::Max(largest, hn::BitCast(ints, hn::Abs(x)));
    }
    hn::StoreU(largest, ints, job.largest + t);
  }
}

void LargestBits(const float* coefficients, std::int64_t channels, std::int64_t tokens,
                 std::int32_t* bits) {
  const Ints d;
  const Floats floats;
  const auto mask = hn::Set(d, 0x7FFFFFFF);
  for (std::int64_t t = 0; t < tokens; t += static_cast<std::int64_t>(hn::Lanes(d))) {
    auto most = hn::Zero(d);
    for (std::int64_t k = 0; k < channels; ++k) {
      const auto x = hn::LoadU(floats, coefficients + k * tokens + t);
      most = hn::Max(most, hn::And(hn::BitCast(d, x), mask));
    }
    hn::StoreU(most, d, bits + t);
  }
}

void Quantise(const QuantiseJob& job) {
  const Floats d;
  const Ints ints;
  const hn::CappedTag<std::uint32_t, 16> words;
  const auto most = hn::Set(d, 127.0f), least = hn::Set(d, -127.0f);
  for (std::int64_t t = 0; t < job.tokens; t += static_cast<std::int64_t>(hn::Lanes(d))) {
    const auto scale = hn::LoadU(d, job.scale + t);
    const auto row = hn::LoadU(ints, job.row + t);
    const std::int32_t first = job.row[t];
    const bool same = hn::AllTrue(ints, hn::Eq(row, hn::Set(ints, first)));
    for (std::int64_t k = 0; k < job.channels; k += 4) {
      auto quad = hn::Zero(ints);
      for (std::int64_t i = 4; i-- > 0;) {
        const auto x = hn::Mul(hn::LoadU(d, job.coefficients + (k + i) * job.tokens + t), scale);
        const float* thresholds = job.thresholds + (k + i) * kThresholds;
        const auto limit =
            same ? hn::Set(d, thresholds[first]) : hn::GatherIndex(d, thresholds, row);
        const auto kept = hn::IfThenElseZero(hn::Ge(hn::Abs(x), limit), x);
        const auto n = hn::NearestInt(hn::Max(hn::Min(kept, most), least));
        quad = hn::Add(hn::ShiftLeft<8>(quad), hn::Add(n, hn::Set(ints, 128)));
      }
      hn::StoreU(hn::BitCast(words, quad), words,
                 reinterpret_cast<std::uint32_t*>(job.quads + (k / 4 * job.quads_stride + t) * 4));
    }
  }
}

}  // namespace kv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kv {
void rest_by_channel(const RestJob& job) { KV_VECTOR_VARIANTS(RestByChannel).chosen()(job); }
void forward_transform(const float* matrix, std::int64_t channels, const float* in,
                       std::int64_t tokens, float* out) {
  KV_VECTOR_VARIANTS(ForwardTransform).chosen()(matrix, channels, in, tokens, out);
}
void split_rest(const SplitJob& job) { KV_VECTOR_VARIANTS(SplitRest).chosen()(job); }
void join_sums(const JoinJob& job) { KV_VECTOR_VARIANTS(JoinSums).chosen()(job); }
void largest_bits(const float* coefficients, std::int64_t channels, std::int64_t tokens,
                  std::int32_t* bits) {
  KV_VECTOR_VARIANTS(LargestBits).chosen()(coefficients, channels, tokens, bits);
}
void quantise(const QuantiseJob& job) { KV_VECTOR_VARIANTS(Quantise).chosen()(job); }
}  // namespace kv
#endif
