#include "thirds.hh"

#include "kv/kernels/rans.hh"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>

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

// Tokens of a coefficient by the magnitude 0, 1 or more, each in their order.
class Lists {
 public:
  explicit Lists(std::size_t tokens) {
    for (auto& list : lists_) list.resize(tokens);
  }
  // Without a branch, for nobody foresees them.
  void part(const std::int16_t* row, std::span<const std::uint16_t> order) {
    std::array<std::size_t, kContexts> n{};
    std::uint16_t *zeros = lists_[0].data(), *ones = lists_[1].data(), *others = lists_[2].data();
    for (const std::uint16_t t : order) {
      const int magnitude = std::abs(row[t]);
      zeros[n[0]] = ones[n[1]] = others[n[2]] = t;
      n[0] += magnitude == 0;
      n[1] += magnitude == 1;
      n[2] += magnitude > 1;
    }
    counts_ = n;
  }
  std::span<const std::uint16_t> of(std::size_t context) const {
    return std::span(lists_[context]).first(counts_[context]);
  }

 private:
  std::array<std::vector<std::uint16_t>, kContexts> lists_;
  std::array<std::size_t, kContexts> counts_{};
};

// Tables of one coefficient by a token's step, looked up when they are first needed.
class TablesOfSteps {
 public:
  void begin() { known_.fill(kUnknown); }
  template <typename F>
  std::int32_t at(int step, F&& find) {
    std::int32_t& table = known_[static_cast<std::size_t>(step + kMostTokenStep)];
    if (table == kUnknown) {
      const std::optional<std::uint16_t> found = find();
      table = found ? *found : kNone;
    }
    return table;
  }
  static constexpr std::int32_t kNone = -1;

 private:
  static constexpr std::int32_t kUnknown = -2;
  std::array<std::int32_t, 2 * kMostTokenStep + 1> known_{};
};

// Which thirds a refinement has, in which order: known to both ends once the integers are.
struct Plan {
  std::vector<RansStep> rans;
  std::vector<std::uint32_t> places;  // of the steps' lanes, in `integers`

  Plan(const EcsqScales& scales, const TileSteps& steps, int quality, const Integers& integers) {
    const std::vector<std::uint16_t> order = order_of(steps);
    const auto coefficients = static_cast<std::size_t>(scales.channels());
    const std::size_t tokens = steps.tokens.size();
    const int finer = kFiner.at(static_cast<std::size_t>(quality - 1));
    Lists lists(tokens + 1);
    TablesOfSteps tables;
    places.reserve(integers.size());
    rans.reserve(integers.size() / kLanes + kContexts * coefficients);
    for (std::size_t k = 0; k < coefficients; ++k) {
      lists.part(integers.data() + k * tokens, order);
      for (std::size_t context = 0; context < kContexts; ++context) {
        const std::span<const std::uint16_t> list = lists.of(context);
        tables.begin();
        for (std::size_t first = 0; first < list.size(); first += kLanes) {
          const auto group = list.subspan(first, std::min(kLanes, list.size() - first));
          const std::uint16_t middle = group[(group.size() - 1) / 2];
          const std::int32_t table = tables.at(steps.tokens[middle], [&] {
            return Classes::get().third(scales.shape[k],
                                        scales.sigma[k] - steps.eighths(middle) + finer,
                                        static_cast<int>(context));
          });
          if (table == TablesOfSteps::kNone) continue;
          rans.push_back(
              {static_cast<std::uint16_t>(table), static_cast<std::uint16_t>(group.size())});
          const std::size_t at = places.size();
          places.resize(at + group.size());
          for (std::size_t i = 0; i < group.size(); ++i) {
            places[at + i] = static_cast<std::uint32_t>(k * tokens + group[i]);
          }
        }
      }
    }
  }

 private:
  static std::vector<std::uint16_t> order_of(const TileSteps& steps) {
    std::vector<std::uint8_t> is_exact(steps.tokens.size());
    for (const std::uint16_t t : steps.exact) is_exact[t] = 1;
    std::vector<std::uint16_t> order;
    for (std::size_t t = 0; t < steps.tokens.size(); ++t) {
      if (is_exact[t] == 0) order.push_back(static_cast<std::uint16_t>(t));
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
  Integers refined(integers.size());
  for (std::size_t i = 0; i < refined.size(); ++i) {
    refined[i] = static_cast<std::int16_t>(3 * integers[i]);
  }
  const std::uint32_t* at = plan.places.data();
  const std::int8_t* thirds = values.data();
  for (const RansStep& step : plan.rans) {
    for (std::size_t lane = 0; lane < step.lanes; ++lane) {
      std::int16_t& integer = refined[at[lane]];
      integer = static_cast<std::int16_t>(integer + thirds[lane] * side_of(integer));
    }
    at += step.lanes;
    thirds += kLanes;
  }
  integers = std::move(refined);
}

}  // namespace kv
