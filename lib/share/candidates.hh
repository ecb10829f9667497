#pragma once
// Which groups of layers are worth a try, and which of those tried are worth having. Numbers in,
// decisions out.

#include "kv/share/share_plan.hh"

#include <cstdint>
#include <span>
#include <vector>

namespace kv {

// A group with what it gave, by prompt.
struct TriedGroup {
  LayerGroup group;
  std::vector<double> divergence;
  double mean() const;
};

// Groups whose ends lie on a grid of `step` layers: begins from `first_different` on, where a model
// may first differ, and ends up to `layers`. Full reuse, (0, 0), and the one that is exact are
// among them.
std::vector<LayerGroup> coarse_groups(std::int64_t layers, std::int64_t first_different,
                                      std::int64_t step);

// Neighbours of the frontier's groups: one end moved by less than `step`. None that was tried.
std::vector<LayerGroup> refined_groups(std::span<const TriedGroup> tried,
                                       std::span<const LayerGroup> frontier, std::int64_t layers,
                                       std::int64_t first_different, std::int64_t step);

// Those than which no other has as few layers and diverges less: ascending count, descending mean.
std::vector<LayerGroup> frontier_of(std::span<const TriedGroup> tried);

// The mean with its 95 % interval, by the bootstrap: 2,000 draws of as many values, from the seed.
Estimate estimated(std::span<const double> values, std::uint64_t seed);
// The value that a share of them, 0 to 1, does not exceed; 0 of none.
double quantile(std::vector<double> values, double share);

// Which half each prompt belongs to: groups stay together and alternate; prompts without a group
// alternate among themselves.
std::vector<bool> kept_apart(std::span<const std::string> groups);

}  // namespace kv
