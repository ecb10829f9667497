#pragma once
// The profile of one tensor from its values and from what is decoded before it: a linear
// prediction, then the Karhunen-Loeve transform of what is left, both in 8-bit integers.

#include "kv/codec/profile.hh"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace kv {

// Of a tensor's values x and of the decoded tensors n beside them: all that a fit goes by. f64,
// second moments about the means; n_mean, nn and nx are undefined where nothing is decoded before.
struct Moments {
  at::Tensor x_mean, n_mean;  // [channels], [inputs]
  at::Tensor xx, nx, nn;      // [channels, channels], [inputs, channels], [inputs, inputs]
};

// Of f32 values [tokens, channels] and i8 contexts [tokens, inputs], which may be undefined.
Moments moments_of(const at::Tensor& values, const at::Tensor& contexts);

struct FitInput {
  std::uint32_t layer = 0;
  format::Kind kind{};
  std::vector<ContextSource> context;
  Moments moments;
  std::vector<double> reach;  // by channel: how far beside its mean a context must tell values
  at::Tensor metric;          // f64 [channels, channels]: what an error weighs; undefined: alike
  double step = 0;            // of a coefficient, in the metric's unit
};

// All but shape and sigma.
TensorProfile fit_tensor(const FitInput& input);

// The square root of a query metric [heads, dim, dim] made safe: epsilon of its mean added to the
// diagonal, mean of the diagonal over all heads 1. f64 [channels, channels].
at::Tensor safe_metric(const at::Tensor& sum, double epsilon);

}  // namespace kv
