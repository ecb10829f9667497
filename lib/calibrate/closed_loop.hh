#pragma once
// One tensor of the codec in the closed loop: from its values and from what is decoded before to
// what a decoder will have of it. As lib/codec codes, but in whole matrices and without bytes.

#include "kv/codec/profile.hh"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace kv {

struct LoopInput {
  at::Tensor values;               // f32 [tokens, channels]
  at::Tensor contexts;             // i8 [tokens, inputs]; undefined: none
  std::vector<std::int8_t> steps;  // of tokens, half octaves; kExactStep or less: kept as it is
  int margin = 0;                  // places by which classes are wider than what is counted
};

struct LoopResult {
  at::Tensor decoded;  // i8 [tokens, channels]: what later tensors are predicted from
  double bits = 0;     // of all values, without containers
};

// Chooses the classes of the profile, which has all but them, and codes with them.
LoopResult close_loop(TensorProfile& profile, const LoopInput& input);

}  // namespace kv
