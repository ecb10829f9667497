#pragma once
// Rotary position embedding of stored keys: "Rope" of kv(5), without LibTorch.

#include "kv/container/geometry.hh"

#include <cstdint>
#include <span>
#include <vector>

namespace kv {

// Radians a position for each of the dim / 2 pairs, rounded to f32 as model code keeps them.
std::vector<float> rope_frequencies(const Rope& rope, std::int64_t dim);

// `rows` are keys [tokens][heads][dim] of consecutive positions; each is turned in place, in f32.
// `dim` is even. Un-rotating gives the keys back but for roundings of f32, and numbers that are
// not finite where `attention_factor` is 0.
void rotate_keys(const Rope& rope, std::uint64_t first_position, std::int64_t heads,
                 std::int64_t dim, std::span<float> rows);
void unrotate_keys(const Rope& rope, std::uint64_t first_position, std::int64_t heads,
                   std::int64_t dim, std::span<float> rows);

}  // namespace kv
