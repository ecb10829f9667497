#pragma once
// Statistics over prompts, with intervals by resampling them.

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace kv {

// Linear between the neighbours, `share` in [0, 1]; 0 of no values.
double quantile(std::vector<double> values, double share);

struct Interval {
  double value = 0, low = 0, high = 0;
};

// Which of `count` windows each of `rounds` samples takes, with repetition: the same seed gives the
// same picks on every machine, so that two figures resampled with them are paired.
std::vector<std::vector<std::size_t>> bootstrap_picks(std::size_t count, std::size_t rounds,
                                                      std::uint64_t seed);

// The statistic over all windows and the 95 % percentile interval over the picks. Nothing when the
// statistic is not defined over all windows; an interval of NaN when it is not in over 5 % of the
// samples.
using Statistic = std::function<std::optional<double>(std::span<const std::size_t>)>;
std::optional<Interval> bootstrap(const std::vector<std::vector<std::size_t>>& picks,
                                  std::size_t count, const Statistic& statistic);

}  // namespace kv
