#pragma once
// Rotations of two channels each that take the largest correlations out of a tile, one after
// another: as many as save more bits than they cost. Private to the folder.

#include "ecsq_scales.hh"

namespace kv {

// `columns` is [channels][tokens] without means; of tokens whose `weight` is 0 nothing is taken.
// Pairs are within blocks of `block` channels. `noise` is what a step leaves of a variance.
// In the order of decoding.
std::vector<Rotation> find_rotations(std::span<const float> columns, std::int64_t tokens,
                                     std::span<const std::uint8_t> weight, std::int64_t block,
                                     double noise);

}  // namespace kv
