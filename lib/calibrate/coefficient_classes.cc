#include "kv/calibrate/coefficient_classes.hh"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace kv {

void CoefficientCounts::add(std::int64_t coefficient, int step, int value) {
  Table& table = counts_[static_cast<std::size_t>(coefficient)]
                        [static_cast<std::size_t>(std::clamp(step + kSteps / 2, 0, kSteps - 1))];
  if (table.empty()) table.resize(kValues);
  ++table[static_cast<std::size_t>(value + kValues / 2)];
}

int CoefficientCounts::deviation(std::int64_t coefficient) const {
  const double mean = squares_[static_cast<std::size_t>(coefficient)];
  const double place = 0.5 * kOctave * std::log2(std::max(mean, 1e-12));
  return std::clamp(static_cast<int>(std::lround(place)), -127, kMostSigma);
}

ClassChoice CoefficientCounts::first(std::int64_t coefficient) const {
  return {.shape = Shape::kBlend, .sigma = deviation(coefficient)};
}

ClassChoice CoefficientCounts::choose(std::int64_t coefficient) const {
  std::vector<ValueCount> entries;
  for (int s = 0; s < kSteps; ++s) {
    const Table& table =
        counts_[static_cast<std::size_t>(coefficient)][static_cast<std::size_t>(s)];
    for (std::size_t v = 0; v < table.size(); ++v) {
      if (table[v] > 0) {
        entries.push_back({s - kSteps / 2, static_cast<int>(v) - kValues / 2, table[v]});
      }
    }
  }
  const int own = deviation(coefficient);
  ClassChoice best = choose_class(entries, -127, kMostSigma, own);
  // A class of which nothing is coded: its own deviation, for finer steps than the profile's.
  const int least = kLeastCoded[static_cast<std::size_t>(best.shape)];
  if (best.sigma < least) best.sigma = std::min(own, least - 1);
  return best;
}

void set_classes(TensorProfile& p, const std::vector<ClassChoice>& choices) {
  std::vector<std::size_t> order(choices.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return choices[a].sigma > choices[b].sigma;
  });
  std::vector<std::int8_t> basis(p.basis.size());
  const auto channels = static_cast<std::size_t>(p.channels);
  for (std::size_t k = 0; k < order.size(); ++k) {
    p.shape[k] = choices[order[k]].shape;
    p.sigma[k] = static_cast<std::int8_t>(choices[order[k]].sigma);
    for (std::size_t c = 0; c < channels; ++c) {
      basis[c * channels + k] = p.basis[c * channels + order[k]];
    }
  }
  p.basis = std::move(basis);
}

}  // namespace kv
