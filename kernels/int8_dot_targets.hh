#pragma once
// One signature and a function a target. Private to the folder. No inline code of the standard
// library here: the files that include this are compiled for one processor each, and the linker may
// keep such a function for all.

#include "int8_dot.hh"

#include <cstdint>

namespace kv {

// Weights lie as Int8Weights says. `rows[i]` is the first token of the i-th listed quad, `quads[i]`
// its index. `bias[c]` is -128 x the sum of the weights of output c over the listed quads, for
// targets that multiply x and not x - 128; as many as 16 * output_tiles.
struct DotJob {
  const std::int8_t* tiles;
  std::int64_t outputs, output_tiles, input_tiles;
  const std::uint8_t* const* rows;
  const std::int32_t* quads;
  std::int64_t quad_count;
  const std::int32_t* bias;
  std::int64_t tokens;
  std::int32_t* out;
  std::int64_t out_stride;
};

inline constexpr std::int64_t kTileOutputs = 16, kTileQuads = 16, kTileBytes = 1024;
inline constexpr std::int64_t kTileRowBytes = 64;

// Quads whose activations lie packed at one time: 24 KB for 32 tokens, so in the first-level cache
// with a group of weights.
inline constexpr std::int64_t kPanelQuads = 192;

using DotFunction = DotTarget (*)(const DotJob&);
DotTarget dot_scalar(const DotJob& job);
DotTarget dot_avx2(const DotJob& job);
DotTarget dot_avxvnni(const DotJob& job);
DotTarget dot_avx512vnni(const DotJob& job);
DotTarget dot_amx(const DotJob& job);

}  // namespace kv
