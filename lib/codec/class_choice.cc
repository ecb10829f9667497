#include "class_choice.hh"

#include "clp_stream.hh"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace kv {
namespace {

constexpr int kMostValue = 127;
constexpr int kPlaces = kMostSigma - kLeastSigma + 2;  // the first stands for all that code nothing

// Bits in 1/1024, whole numbers: no digit of a logarithm that a machine rounds otherwise decides.
class Costs {
 public:
  Costs() {
    for (int shape = 0; shape < kShapes; ++shape) {
      for (int place = 0; place < kPlaces; ++place) {
        for (int value = -kMostValue; value <= kMostValue; ++value) {
          costs_.push_back(static_cast<std::int32_t>(
              std::lrint(1024 * Classes::get().cost_bits(static_cast<Shape>(shape),
                                                         kLeastSigma - 1 + place, value))));
        }
      }
    }
  }
  std::int64_t of(int shape, int sigma, int value) const {
    const int place = std::clamp(sigma - kLeastSigma + 1, 0, kPlaces - 1);
    return costs_[static_cast<std::size_t>((shape * kPlaces + place) * (2 * kMostValue + 1) +
                                           value + kMostValue)];
  }

 private:
  std::vector<std::int32_t> costs_;
};

// The place of a deviation.
int place_of(double variance) {
  constexpr double kStep = 1.189207115002721;  // 2^(2/8): of a variance
  int place = 0;
  double at = 1;
  for (; at < variance && place < kMostSigma; ++place) at *= kStep;
  for (; at > variance && place > kLeastSigma - kMostTokenStep * kStepGrid; --place) at /= kStep;
  return place;
}

int place_of(std::span<const ValueCount> counts, int otherwise) {
  double sum = 0, total = 0;
  for (const ValueCount& entry : counts) {
    sum += std::ldexp(entry.value * entry.value, entry.half_octaves) * entry.count;
    total += entry.count;
  }
  return total > 0 ? place_of(sum / total) : otherwise;
}

}  // namespace

ClassChoice choose_class(std::span<const ValueCount> counts, int least, int most,
                         std::optional<int> deviation) {
  static const Costs costs;
  constexpr int kAround = 10;  // places looked at, either way
  const int middle = deviation.value_or(place_of(counts, least));
  ClassChoice best;
  std::int64_t best_cost = std::numeric_limits<std::int64_t>::max();
  for (int sigma = std::max(least, std::min(middle, most) - kAround);
       sigma <= std::min(most, std::max(middle, least) + kAround); ++sigma) {
    for (int shape = 0; shape < kShapes; ++shape) {
      std::int64_t cost = 0;
      for (const ValueCount& entry : counts) {
        cost += entry.count * costs.of(shape, sigma - kStepGrid * entry.half_octaves, entry.value);
      }
      if (cost < best_cost) {
        best_cost = cost;
        best = {static_cast<Shape>(shape), sigma, static_cast<double>(cost) / 1024};
      }
    }
  }
  return best;
}

}  // namespace kv
