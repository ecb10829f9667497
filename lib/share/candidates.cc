#include "kv/share/candidates.hh"

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <set>

namespace kv {
namespace {

constexpr int kDraws = 2000;

bool before(const LayerGroup& a, const LayerGroup& b) {
  return a.first != b.first ? a.first < b.first : a.end < b.end;
}

}  // namespace

double TriedGroup::mean() const {
  const double sum = std::accumulate(divergence.begin(), divergence.end(), 0.0);
  return divergence.empty() ? 0 : sum / static_cast<double>(divergence.size());
}

std::vector<LayerGroup> coarse_groups(std::int64_t layers, std::int64_t first_different,
                                      std::int64_t step) {
  std::vector<LayerGroup> groups = {{0, 0}};
  std::set<std::int64_t> begins = {first_different};
  for (std::int64_t b = 0; b < layers; b += step) {
    if (b > first_different) begins.insert(b);
  }
  for (const std::int64_t begin : begins) {
    for (std::int64_t end = step; end < layers + step; end += step) {
      const std::int64_t at = std::min(end, layers);
      if (at > begin) groups.push_back({begin, at});
    }
  }
  return groups;
}

std::vector<LayerGroup> refined_groups(std::span<const TriedGroup> tried,
                                       std::span<const LayerGroup> frontier, std::int64_t layers,
                                       std::int64_t first_different, std::int64_t step) {
  std::vector<LayerGroup> groups;
  const auto known = [&](const LayerGroup& group) {
    return std::ranges::find(groups, group) != groups.end() ||
           std::ranges::find(tried, group, &TriedGroup::group) != tried.end();
  };
  const auto add = [&](const LayerGroup& group) {
    const bool possible =
        group.first >= first_different && group.end <= layers && group.count() > 0;
    if (possible && !known(group)) groups.push_back(group);
  };
  for (const LayerGroup& group : frontier) {
    if (group.count() == 0) continue;
    for (std::int64_t by = 1; 2 * by <= step; ++by) {
      for (const std::int64_t move : {-by, by}) {
        add({group.first + move, group.end});
        add({group.first, group.end + move});
      }
    }
  }
  std::ranges::sort(groups, before);
  return groups;
}

std::vector<LayerGroup> frontier_of(std::span<const TriedGroup> tried) {
  std::map<std::int64_t, const TriedGroup*> best;
  for (const TriedGroup& each : tried) {
    const TriedGroup*& held = best[each.group.count()];
    if (!held || each.mean() < held->mean()) held = &each;
  }
  std::vector<LayerGroup> frontier;
  double least = 0;
  for (const auto& [count, each] : best) {
    if (!frontier.empty() && each->mean() >= least) continue;
    least = each->mean();
    frontier.push_back(each->group);
  }
  return frontier;
}

Estimate estimated(std::span<const double> values, std::uint64_t seed) {
  if (values.empty()) return {};
  const auto count = static_cast<double>(values.size());
  Estimate estimate{.mean = std::accumulate(values.begin(), values.end(), 0.0) / count};
  std::mt19937_64 random(seed);
  std::vector<double> means;
  for (int draw = 0; draw < kDraws; ++draw) {
    double sum = 0;
    for (std::size_t i = 0; i < values.size(); ++i) sum += values[random() % values.size()];
    means.push_back(sum / count);
  }
  estimate.low = quantile(means, 0.025);
  estimate.high = quantile(means, 0.975);
  return estimate;
}

double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const auto last = static_cast<double>(values.size() - 1);
  return values[static_cast<std::size_t>(share * last + 0.5)];
}

std::vector<bool> kept_apart(std::span<const std::string> groups) {
  std::map<std::string, bool> half_of;
  std::vector<bool> apart;
  bool next_group = false, next_alone = false;
  for (const std::string& group : groups) {
    if (group.empty()) {
      apart.push_back(next_alone);
      next_alone = !next_alone;
      continue;
    }
    const auto [at, added] = half_of.try_emplace(group, next_group);
    if (added) next_group = !next_group;
    apart.push_back(at->second);
  }
  // All of one topic: then by prompt, for an empty half says nothing.
  if (!apart.empty() && std::ranges::count(apart, apart.front()) == std::ssize(apart)) {
    for (std::size_t i = 0; i < apart.size(); ++i) apart[i] = i % 2 == 1;
  }
  return apart;
}

}  // namespace kv
