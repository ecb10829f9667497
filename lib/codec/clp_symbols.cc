#include "clp_symbols.hh"

#include "clp_values.hh"
#include "kv/kernels/rans.hh"

#include <algorithm>
#include <array>
#include <cstring>

namespace kv {
namespace {

constexpr std::int64_t kLanes = SymbolPlan::kLanes;
constexpr std::size_t kTogether = 4;

const RansTables& shared_tables() {
  static const RansTables tables = [] {
    const std::span rows = Classes::get().tables();
    return RansTables(std::vector<std::span<const std::uint16_t>>(rows.begin(), rows.end()));
  }();
  return tables;
}

// The greatest value of each table that is no escape.
const std::vector<std::int8_t>& greatest_symbols() {
  static const std::vector<std::int8_t> greatest = [] {
    std::vector<std::int8_t> of;
    for (const auto& table : Classes::get().tables()) {
      of.push_back(static_cast<std::int8_t>(table.size() / 2 - 1));
    }
    return of;
  }();
  return greatest;
}

// From symbols to values, where there are low bits: v 2^b - 2^(b-1) + the bits of the planes,
// modulo 2^8.
void add_low_bits(const SymbolPlan& plan, ByteView planes, std::int8_t* values) {
  for (const SymbolPlan::LowBits& part : plan.low_bits()) {
    const std::byte* plane = planes.data() + std::size_t{4} * part.first_plane;
    auto* row = reinterpret_cast<std::uint8_t*>(values) + part.first_step * kLanes;
    for (std::uint32_t step = 0; step < part.steps; ++step, row += kLanes) {
      std::array<std::uint8_t, kLanes> low{};
      for (std::uint8_t bit = part.bits; bit-- > 0;) {
        std::uint32_t word;
        std::memcpy(&word, plane + 4 * bit, 4);
        for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
          low[lane] = static_cast<std::uint8_t>(2 * low[lane] + (word >> lane & 1));
        }
      }
      for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
        row[lane] = static_cast<std::uint8_t>((row[lane] << part.bits) - (1 << (part.bits - 1)) +
                                              low[lane]);
      }
      plane += 4 * part.bits;
    }
  }
}

// From values to symbols, where there are low bits: those go to the planes. `originals` are the
// values of these steps, one after another.
void split_low_bits(const SymbolPlan& plan, std::int8_t* values, std::vector<std::uint32_t>& planes,
                    std::vector<std::int8_t>& originals) {
  planes.assign(plan.planes(), 0);
  for (const SymbolPlan::LowBits& part : plan.low_bits()) {
    const int half = 1 << (part.bits - 1);
    std::uint32_t* plane = planes.data() + part.first_plane;
    std::int8_t* row = values + part.first_step * kLanes;
    originals.insert(originals.end(), row, row + part.steps * kLanes);
    for (std::uint32_t step = 0; step < part.steps; ++step, row += kLanes, plane += part.bits) {
      const std::uint32_t lanes = plan.steps()[part.first_step + step].lanes;
      for (std::uint32_t lane = 0; lane < lanes; ++lane) {
        const int value = row[lane] + half;
        for (std::uint8_t bit = 0; bit < part.bits; ++bit) {
          plane[bit] |= static_cast<std::uint32_t>(value >> bit & 1) << lane;
        }
        row[lane] = static_cast<std::int8_t>(value >> part.bits);
      }
    }
  }
}

// From values to symbols, planes and escapes.
void split_values(const SymbolPlan& plan, std::int8_t* values, CodedSymbols& out) {
  const std::vector<std::int8_t>& greatest = greatest_symbols();
  std::vector<std::int8_t> originals;
  split_low_bits(plan, values, out.planes, originals);
  std::vector<std::uint32_t> steps;
  find_beyond(plan.steps(), values, greatest, steps);
  out.escapes.clear();
  auto part = plan.low_bits().begin();
  std::size_t before = 0;  // steps with low bits before `part`
  for (const std::uint32_t step : steps) {
    for (; part != plan.low_bits().end() && step >= part->first_step + part->steps; ++part) {
      before += part->steps;
    }
    std::int8_t* row = values + step * kLanes;
    const std::int8_t* original = row;
    std::span<std::uint32_t> planes;
    if (part != plan.low_bits().end() && step >= part->first_step) {
      const std::size_t at = step - part->first_step;
      original = originals.data() + (before + at) * kLanes;
      planes = std::span(out.planes).subspan(part->first_plane + at * part->bits, part->bits);
    }
    const std::int8_t most = greatest[plan.steps()[step].table];
    for (std::uint32_t lane = 0; lane < plan.steps()[step].lanes; ++lane) {
      if (row[lane] >= -most && row[lane] <= most) continue;
      out.escapes.push_back(original[lane]);
      for (std::uint32_t& plane : planes) plane &= ~(1u << lane);
      row[lane] = kRansEscape;
    }
  }
}

// Scratch of a thread.
std::int8_t* values_room(std::size_t job, std::size_t steps) {
  thread_local std::array<Room<std::int8_t>, kTogether> rooms;
  return rooms[job].take(steps * kLanes);
}

void decode_some(std::span<DecodeSymbols> jobs) {
  thread_local std::array<std::vector<std::uint32_t>, kTogether> places;
  std::array<RansDecodeJob, kTogether> rans;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const std::span<const RansStep> steps = jobs[i].plan->steps();
    places[i].resize(jobs[i].escapes.size());
    rans[i] = {jobs[i].stream, steps, values_room(i, steps.size()), places[i]};
  }
  static_cast<void>(rans_decode(shared_tables(), std::span(rans).first(jobs.size())));
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].intact = rans[i].intact && rans[i].escape_count == places[i].size();
    if (!jobs[i].intact) continue;
    std::int8_t* values = rans[i].values;
    add_low_bits(*jobs[i].plan, jobs[i].planes, values);
    for (std::size_t e = 0; e < places[i].size(); ++e) {
      values[places[i][e]] = std::to_integer<std::int8_t>(jobs[i].escapes[e]);
    }
    place_values(*jobs[i].plan, values, *jobs[i].out);
  }
}

void encode_some(std::span<const EncodeSymbols> jobs) {
  std::array<RansEncodeJob, kTogether> rans;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const SymbolPlan& plan = *jobs[i].plan;
    std::int8_t* values = values_room(i, plan.steps().size());
    take_values(plan, *jobs[i].coefficients, values);
    split_values(plan, values, *jobs[i].out);
    jobs[i].out->stream.clear();
    rans[i] = {plan.steps(), values, &jobs[i].out->stream};
  }
  rans_encode(shared_tables(), std::span<const RansEncodeJob>(rans).first(jobs.size()));
}

}  // namespace

void decode_symbols(std::span<DecodeSymbols> jobs) {
  for (; !jobs.empty(); jobs = jobs.subspan(std::min(kTogether, jobs.size()))) {
    decode_some(jobs.first(std::min(kTogether, jobs.size())));
  }
}

void encode_symbols(std::span<const EncodeSymbols> jobs) {
  for (; !jobs.empty(); jobs = jobs.subspan(std::min(kTogether, jobs.size()))) {
    encode_some(jobs.first(std::min(kTogether, jobs.size())));
  }
}

}  // namespace kv
