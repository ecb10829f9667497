#include "thirds.hh"

#include "kv/kernels/rans.hh"

#include <algorithm>
#include <cstdlib>

namespace kv {
namespace {

constexpr std::size_t kLanes = 32;
constexpr int kContexts = 3;
// Eighths of an octave by which the step that is split is below the base's: 12.68 a quality.
constexpr std::array<int, kMostRefinements> kFiner = {0, 13, 25, 38};

const RansTables& third_tables() {
  static const RansTables tables = [] {
    const std::span rows = Classes::get().third_tables();
    return RansTables(std::vector<std::span<const std::uint16_t>>(rows.begin(), rows.end()));
  }();
  return tables;
}

// Which thirds a refinement has, in which order: known to both ends once the integers are.
struct Plan {
  std::vector<RansStep> rans;
  std::vector<std::uint32_t> places;  // of the steps' lanes, in `integers`

  Plan(const EcsqScales& scales, const TileSteps& steps, int quality, const Integers& integers) {
    const std::vector<std::uint16_t> order = order_of(steps);
    const auto coefficients = static_cast<std::size_t>(scales.channels());
    const int finer = kFiner.at(static_cast<std::size_t>(quality - 1));
    std::array<std::vector<std::uint16_t>, kContexts> groups;
    for (std::size_t k = 0; k < coefficients; ++k) {
      const std::int16_t* row = integers.data() + k * steps.tokens.size();
      for (auto& group : groups) group.clear();
      for (const std::uint16_t t : order) {
        groups[static_cast<std::size_t>(std::min(std::abs(row[t]), kContexts - 1))].push_back(t);
      }
      for (std::size_t context = 0; context < kContexts; ++context) {
        const std::vector<std::uint16_t>& tokens = groups[context];
        for (std::size_t first = 0; first < tokens.size(); first += kLanes) {
          const std::size_t count = std::min(kLanes, tokens.size() - first);
          const int eighths = steps.eighths(tokens[first + (count - 1) / 2]);
          const auto table = Classes::get().third(
              scales.shape[k], scales.sigma[k] - eighths + finer, static_cast<int>(context));
          if (!table) continue;
          rans.push_back({*table, static_cast<std::uint16_t>(count)});
          for (std::size_t i = first; i < first + count; ++i) {
            places.push_back(static_cast<std::uint32_t>(k * steps.tokens.size() + tokens[i]));
          }
        }
      }
    }
  }

 private:
  static std::vector<std::uint16_t> order_of(const TileSteps& steps) {
    std::vector<std::uint16_t> order;
    for (std::size_t t = 0; t < steps.tokens.size(); ++t) {
      if (!std::binary_search(steps.exact.begin(), steps.exact.end(), t)) {
        order.push_back(static_cast<std::uint16_t>(t));
      }
    }
    std::stable_sort(order.begin(), order.end(), [&](std::uint16_t a, std::uint16_t b) {
      return steps.tokens[a] < steps.tokens[b];
    });
    return order;
  }
};

// A third of what is below 0 lies the other way round.
int side_of(std::int16_t integer) { return integer < 0 ? -1 : 1; }

}  // namespace

Bytes refine(const EcsqScales& scales, const TileSteps& steps, int quality, Integers& integers,
             const Integers& wanted) {
  const Plan plan(scales, steps, quality, integers);
  std::vector<std::int8_t> values(plan.rans.size() * kLanes);
  Integers refined(integers);
  for (std::int16_t& integer : refined) integer = static_cast<std::int16_t>(3 * integer);
  const std::uint32_t* place = plan.places.data();
  for (std::size_t step = 0; step < plan.rans.size(); ++step) {
    for (std::size_t lane = 0; lane < plan.rans[step].lanes; ++lane, ++place) {
      const int most = third_tables().symbols(plan.rans[step].table) / 2 - 1;
      const int third = std::clamp(wanted[*place] - refined[*place], -most, most);
      refined[*place] = static_cast<std::int16_t>(refined[*place] + third);
      values[step * kLanes + lane] = static_cast<std::int8_t>(third * side_of(integers[*place]));
    }
  }
  integers = std::move(refined);
  Bytes out;
  const RansEncodeJob job{plan.rans, values.data(), &out};
  rans_encode(third_tables(), {&job, 1});
  return out;
}

void read_refinement(const EcsqScales& scales, const TileSteps& steps, int quality, ByteView data,
                     const std::string& place, Integers& integers) {
  const Plan plan(scales, steps, quality, integers);
  std::vector<std::int8_t> values(plan.rans.size() * kLanes);
  RansDecodeJob job{data, plan.rans, values.data(), {}};
  if (!rans_decode(third_tables(), {&job, 1})) {
    fail_input("{}: the refinement is damaged; leave it out (kvcat --quality {})", place,
               quality - 1);
  }
  Integers refined(integers);
  for (std::int16_t& integer : refined) integer = static_cast<std::int16_t>(3 * integer);
  const std::uint32_t* at = plan.places.data();
  for (std::size_t step = 0; step < plan.rans.size(); ++step) {
    for (std::size_t lane = 0; lane < plan.rans[step].lanes; ++lane, ++at) {
      const int third = values[step * kLanes + lane] * side_of(integers[*at]);
      refined[*at] = static_cast<std::int16_t>(refined[*at] + third);
    }
  }
  integers = std::move(refined);
}

}  // namespace kv
