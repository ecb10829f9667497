#pragma once
// Which class codes a coefficient in the fewest bits.

#include "kv/codec/class_choice.hh"
#include "kv/codec/profile.hh"

#include <array>
#include <cstdint>
#include <vector>

namespace kv {

// How often coefficients had each value, by coefficient and by the step of their token.
class CoefficientCounts {
 public:
  explicit CoefficientCounts(std::int64_t coefficients)
      : counts_(static_cast<std::size_t>(coefficients)), squares_(counts_.size()) {}
  // As it was rounded; `step` in half octaves beside the profile's own.
  void add(std::int64_t coefficient, int step, int value);
  // Mean square before rounding, in the profile's own steps.
  void set_mean_square(std::int64_t coefficient, double mean) {
    squares_[static_cast<std::size_t>(coefficient)] = mean;
  }
  void clear_counts() { counts_.assign(counts_.size(), {}); }

  // The class of a coefficient's own deviation: where to start from.
  ClassChoice first(std::int64_t coefficient) const;
  // The cheapest one.
  ClassChoice choose(std::int64_t coefficient) const;

 private:
  static constexpr int kValues = 255;
  static constexpr int kSteps = 33;  // by step + kSteps / 2; only those that occur have a table
  using Table = std::vector<std::uint32_t>;
  int deviation(std::int64_t coefficient) const;  // a place of the grid

  std::vector<std::array<Table, kSteps>> counts_;
  std::vector<double> squares_;
};

// Writes shape and sigma, and puts the coefficients in the order of their deviation, with the
// columns of the basis.
void set_classes(TensorProfile& profile, const std::vector<ClassChoice>& choices);

}  // namespace kv
