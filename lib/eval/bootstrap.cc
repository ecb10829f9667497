#include "kv/eval/bootstrap.hh"

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>

namespace kv {

double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double at = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
}

std::vector<std::vector<std::size_t>> bootstrap_picks(std::size_t count, std::size_t rounds,
                                                      std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::vector<std::size_t>> picks(rounds, std::vector<std::size_t>(count));
  for (auto& round : picks) {
    // The bias of the remainder is 2^-60 here; distributions differ between libraries.
    for (std::size_t& pick : round) pick = static_cast<std::size_t>(random() % count);
  }
  return picks;
}

std::optional<Interval> bootstrap(const std::vector<std::vector<std::size_t>>& picks,
                                  std::size_t count, const Statistic& statistic) {
  std::vector<std::size_t> all(count);
  std::iota(all.begin(), all.end(), std::size_t{0});
  const std::optional<double> value = statistic(all);
  if (!value) return std::nullopt;
  std::vector<double> samples;
  for (const auto& round : picks) {
    if (const std::optional<double> sample = statistic(round)) samples.push_back(*sample);
  }
  if (20 * samples.size() < 19 * picks.size() || samples.empty()) {
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    return Interval{*value, kNan, kNan};
  }
  return Interval{*value, quantile(samples, 0.025), quantile(samples, 0.975)};
}

}  // namespace kv
