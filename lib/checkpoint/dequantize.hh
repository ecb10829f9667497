#pragma once
// ggml's block formats and the 16-bit floats to f32, with the arithmetic of ggml's reference.

#include "kv/checkpoint/checkpoint.hh"

#include <cstdint>
#include <span>

namespace kv {

struct BlockShape {
  std::int64_t count = 1;      // elements a block
  std::size_t size_bytes = 0;  // bytes a block
};
BlockShape block_shape(WeightType type);

// Fills `out` from as many whole blocks. Safe to call from several threads.
void dequantize(WeightType type, const std::byte* blocks, std::span<float> out);

}  // namespace kv
