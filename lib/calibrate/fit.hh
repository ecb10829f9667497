#pragma once
// The profile of one tensor from its values and from what is decoded before it: a linear
// prediction, then the Karhunen-Loeve transform of what is left, both in 8-bit integers.

#include "kv/codec/profile.hh"

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

namespace kv {

struct FitInput {
  std::uint32_t layer = 0;
  format::Kind kind{};
  std::vector<ContextSource> context;
  at::Tensor values;    // f32 [tokens, channels]
  at::Tensor contexts;  // f32 [tokens, inputs]: decoded tensors in their units; undefined: none
  at::Tensor metric;    // f64 [channels, channels]: what an error weighs; undefined: all alike
  double step = 0;      // of a coefficient, in the metric's unit
};

// All but shape and sigma.
TensorProfile fit_tensor(const FitInput& input);

// How often coefficients had each value, by coefficient and by the step of their token.
class CoefficientCounts {
 public:
  explicit CoefficientCounts(std::int64_t coefficients)
      : counts_(static_cast<std::size_t>(coefficients)), moments_(counts_.size()) {}
  // As it was rounded; `step` in half octaves beside the profile's own.
  void add(std::int64_t coefficient, int step, int value);
  // As it was before, in the profile's own steps.
  void add(std::int64_t coefficient, double value);

  // The cheapest class of each coefficient; then the coefficients are put in the order of their
  // deviation, with the columns of the basis.
  void choose_classes(TensorProfile& profile) const;

 private:
  static constexpr int kValues = 255;
  // By step + kSteps / 2; only the steps that occur have a table.
  static constexpr int kSteps = 33;
  using Table = std::vector<std::uint32_t>;
  struct Moments {
    double squares = 0;
    std::uint64_t count = 0;
  };
  struct Choice {
    Shape shape{};
    int sigma = 0;
    std::int64_t coefficient = 0;
  };
  int deviation(std::size_t coefficient) const;  // a place of the grid
  Choice choose(std::size_t coefficient) const;

  std::vector<std::array<Table, kSteps>> counts_;
  std::vector<Moments> moments_;
};

// The square root of a query metric [heads, dim, dim] made safe: epsilon of its mean added to the
// diagonal, mean of the diagonal over all heads 1. f64 [channels, channels].
at::Tensor safe_metric(const at::Tensor& sum, double epsilon);

}  // namespace kv
