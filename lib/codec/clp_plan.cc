#include "clp_plan.hh"

#include <algorithm>
#include <array>

namespace kv {

// By counting: there are few different steps.
std::vector<SymbolPlan::Run> SymbolPlan::sort_tokens(const TileSteps& steps) {
  const std::vector<std::int8_t>& tokens = steps.tokens;
  std::vector<std::uint8_t> is_exact(tokens.size());
  for (const std::uint16_t token : steps.exact) is_exact[token] = 1;
  std::array<std::uint32_t, 2 * kMostTokenStep + 2> at{};  // then where the next of a step goes
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    at[static_cast<std::size_t>(tokens[t] + kMostTokenStep + 1)] += 1u - is_exact[t];
  }
  for (std::size_t step = 1; step < at.size(); ++step) at[step] += at[step - 1];
  order_.resize(tokens.size() - steps.exact.size());
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    if (is_exact[t]) continue;
    order_[at[static_cast<std::size_t>(tokens[t] + kMostTokenStep)]++] =
        static_cast<std::uint16_t>(t);
  }
  std::vector<Run> runs;
  for (std::int64_t group = 0; group < groups(); ++group) {
    const std::span<const std::uint16_t> own = lanes(group);
    const int eighths = steps.eighths(own[(own.size() - 1) / 2]);
    if (runs.empty() || runs.back().eighths != eighths) {
      runs.push_back({static_cast<std::uint32_t>(group), 0, eighths});
    }
    ++runs.back().groups;
    // The first and the last may lie so far apart where steps meet in the group, too.
    const auto jump =
        std::adjacent_find(own.begin(), own.end(), [](int a, int b) { return b != a + 1; });
    const bool straight = std::ssize(own) == kLanes && jump == own.end();
    straight_from_.push_back(straight ? own.front() : -1);
  }
  return runs;
}

SymbolPlan::SymbolPlan(std::span<const Shape> shape, std::span<const std::int8_t> sigma,
                       const TileSteps& steps)
    : rows_(sigma.size()) {
  const std::vector<Run> runs = sort_tokens(steps);
  const Classes& classes = Classes::get();
  steps_.resize(sigma.size() * static_cast<std::size_t>(groups()));
  RansStep* next = steps_.data();
  for (std::size_t k = 0; k < sigma.size(); ++k) {
    Row& row = rows_[k];
    row.first_step = static_cast<std::uint32_t>(next - steps_.data());
    for (const Run& run : runs) {
      const ClassCode code = classes.code(shape[k], sigma[k] - run.eighths);
      if (code.zero) break;  // and so are the coarser ones behind it
      if (code.low_bits > 0) {
        low_bits_.push_back({row.first_step + row.groups, run.groups, planes_, code.low_bits});
        planes_ += run.groups * code.low_bits;
      }
      std::fill(next, next + run.groups, RansStep{code.table, kLanes});
      next += run.groups;
      row.groups += run.groups;
    }
    if (row.groups == 0) continue;
    used_ = static_cast<std::int64_t>(k) + 1;
    if (row.groups == groups()) next[-1].lanes = last_lanes();
  }
  steps_.resize(static_cast<std::size_t>(next - steps_.data()));
}

}  // namespace kv
