#pragma once
// Rotary position embedding: the angles of each pair, as Hugging Face transformers computes them,
// in the same operations and precision.

#include "kv/container/geometry.hh"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

namespace kv {

// Radians a position for each of the dim / 2 pairs; f32.
at::Tensor inverse_frequencies(const Rope& rope, std::int64_t dim);

struct RopeAngles {
  at::Tensor cos, sin;  // f32 [positions, dim / 2]
};
RopeAngles rope_angles(const Rope& rope, const at::Tensor& inverse_frequencies,
                       std::span<const std::int32_t> positions);

}  // namespace kv
