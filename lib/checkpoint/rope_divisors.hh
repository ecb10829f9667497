#pragma once
// RoPE scaling as a tensor: llama.cpp keeps Llama 3's as one divisor for each pair's frequency, and
// not the numbers it computed them from. Private to the folder.

#include "kv/container/geometry.hh"

#include <optional>
#include <span>

namespace kv {

// `plain` with the scaling that makes these divisors of its frequencies, one for each of dim / 2
// pairs: none when all are 1, else llama3 with the factors 1 and 4 between which every Llama 3 is
// blended. `plain` is not scaled; its original context, where not 0, is tried first. Nothing when
// no such scaling makes all of them to 1e-5.
std::optional<Rope> scaling_of_divisors(const Rope& plain, std::span<const float> divisors);

}  // namespace kv
