#include "kv/model/rope.hh"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bitwise_and.h>
#include <ATen/ops/bitwise_not.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/reciprocal.h>
#include <ATen/ops/rsub.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace kv {
namespace {

constexpr double kPi = std::numbers::pi;

at::Tensor plain_powers(const Rope& rope, std::int64_t dim) {
  const at::Tensor exponents =
      at::arange(0, dim, 2, at::TensorOptions(at::kLong)).to(at::kFloat) / static_cast<double>(dim);
  return at::pow(at::Scalar(rope.theta), exponents);
}

// Long wavelengths are stretched by `factor`, short ones left, those between blended.
at::Tensor llama3(const Rope& rope, const at::Tensor& frequencies) {
  const double context = static_cast<double>(rope.original_context);
  const double longest = context / rope.low_freq_factor;
  const double shortest = context / rope.high_freq_factor;
  const at::Tensor wavelength = 2 * kPi * at::reciprocal(frequencies);
  const at::Tensor stretched =
      at::where(wavelength > longest, frequencies / rope.factor, frequencies);
  const at::Tensor smooth = (context * at::reciprocal(wavelength) - rope.low_freq_factor) /
                            (rope.high_freq_factor - rope.low_freq_factor);
  const at::Tensor blended = (1 - smooth) * stretched / rope.factor + smooth * stretched;
  const at::Tensor between = at::bitwise_and(at::bitwise_not(wavelength < shortest),
                                             at::bitwise_not(wavelength > longest));
  return at::where(between, blended, stretched);
}

// YaRN: interpolated and extrapolated frequencies, mixed by a ramp over the pairs.
at::Tensor yarn(const Rope& rope, std::int64_t dim) {
  const auto pair_of = [&](double rotations) {
    return static_cast<double>(dim) *
           std::log(static_cast<double>(rope.original_context) / (rotations * 2 * kPi)) /
           (2 * std::log(rope.theta));
  };
  double low = pair_of(rope.beta_fast), high = pair_of(rope.beta_slow);
  if (rope.yarn_truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  const at::Tensor powers = plain_powers(rope, dim);
  const at::Tensor pairs = at::arange(dim / 2, at::TensorOptions(at::kFloat));
  const at::Tensor keep = 1 - at::clamp((pairs - low) / (high - low), 0, 1);
  return at::reciprocal(rope.factor * powers) * (1 - keep) + at::reciprocal(powers) * keep;
}

}  // namespace

at::Tensor inverse_frequencies(const Rope& rope, std::int64_t dim) {
  if (rope.scaling == Rope::Scaling::kYarn) return yarn(rope, dim);
  const at::Tensor frequencies = at::reciprocal(plain_powers(rope, dim));
  if (rope.scaling == Rope::Scaling::kLinear) return frequencies / rope.factor;
  if (rope.scaling == Rope::Scaling::kLlama3) return llama3(rope, frequencies);
  return frequencies;
}

RopeAngles rope_angles(const Rope& rope, const at::Tensor& inverse_frequencies,
                       std::span<const std::int32_t> positions) {
  const at::Tensor column =
      at::from_blob(const_cast<std::int32_t*>(positions.data()),
                    {static_cast<std::int64_t>(positions.size()), 1}, at::TensorOptions(at::kInt))
          .to(at::kFloat);
  const at::Tensor angles = column * inverse_frequencies;
  return {at::cos(angles) * rope.attention_factor, at::sin(angles) * rope.attention_factor};
}

}  // namespace kv
