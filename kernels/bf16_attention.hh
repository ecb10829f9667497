#pragma once
// Causal attention of some rows to some keys, in bf16 with f32 sums and a running softmax: scores
// and probabilities stay in the first-level cache.

#include <cstdint>

namespace kv {

// A bf16 is its bits.
struct Bf16Attention {
  static constexpr std::int64_t kTileKeys = 64, kMostTiles = 4;

  // [rows][group][k_dim]: row i stands at positions[i] and has `group` queries.
  const std::uint16_t* queries = nullptr;
  const std::int32_t* positions = nullptr;
  std::int64_t rows = 0, group = 1;
  std::int64_t k_dim = 0, v_dim = 0;
  // `tiles` (up to kMostTiles) of 64 keys: [tile][k_dim / 2][64][2], and [tile * 32][v_dim][2].
  const std::uint16_t *keys = nullptr, *values = nullptr;
  std::int64_t tiles = 0;
  float scale = 1;
  // A row sees keys with row position - window < key position <= row position; null: all of them.
  // Window 0: none.
  const std::int32_t* key_positions = nullptr;
  std::int64_t window = 0;
  // The running softmax, [rows][group]: the greatest score so far (at first -1e30, never
  // -infinity), the sum of the probabilities relative to it, and that of the values times them,
  // [..][v_dim].
  float *max = nullptr, *sum = nullptr, *output = nullptr;
};

// Whether bf16_attention() can be called: there is AMX, and the dimensions are multiples of 32.
bool bf16_attention_fits(std::int64_t k_dim, std::int64_t v_dim);
// Takes account of the keys. A probability is right to 1e-4 of itself and then rounded to bf16 for
// the output; a score to 2^-18 of the sum of its products' magnitudes.
void bf16_attention(const Bf16Attention& block);
// The definition, for any dimensions that are even.
void bf16_attention_scalar(const Bf16Attention& block);

}  // namespace kv
