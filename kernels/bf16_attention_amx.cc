#include "amx_tiles.hh"
#include "bf16_attention_targets.hh"
#include "exp2_avx512.hh"

namespace kv {
namespace {

constexpr std::int64_t kRows = 32;  // queries at a time: two tiles
constexpr std::int64_t kKeys = Bf16Attention::kTileKeys * Bf16Attention::kMostTiles;

// Of kRows queries, first scores, then probabilities: 48 KB.
struct Scratch {
  alignas(64) float scores[kRows * kKeys];
  alignas(64) std::uint16_t probabilities[kRows * kKeys];
};

// Tiles 0 to 3 are sums, 4 and 5 the left side, 6 and 7 the right.
template <bool kTwoTiles>
void multiply_step(const std::uint16_t* left, std::int64_t left_stride, const std::uint16_t* right,
                   std::int64_t right_stride) {
  _tile_loadd(4, left, 2 * left_stride);
  _tile_loadd(6, right, 2 * right_stride);
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(7, right + 32, 2 * right_stride);
  _tile_dpbf16ps(1, 4, 7);
  if (kTwoTiles) {
    _tile_loadd(5, left + 16 * left_stride, 2 * left_stride);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
}

template <bool kTwoTiles>
void store_sums(float* to, std::int64_t stride) {
  _tile_stored(0, to, 4 * stride);
  _tile_stored(1, to + 16, 4 * stride);
  if (kTwoTiles) {
    _tile_stored(2, to + 16 * stride, 4 * stride);
    _tile_stored(3, to + 16 * stride + 16, 4 * stride);
  }
  memory_barrier();
}

template <bool kTwoTiles>
void score(const Bf16Attention& block, const std::uint16_t* queries, Scratch& scratch) {
  for (std::int64_t key = 0; key < 64 * block.tiles; key += 32) {
    const std::uint16_t* keys = block.keys + key / 64 * 64 * block.k_dim + key % 64 * 2;
    _tile_zero(0);
    _tile_zero(1);
    if (kTwoTiles) {
      _tile_zero(2);
      _tile_zero(3);
    }
    for (std::int64_t i = 0; i < block.k_dim; i += 32) {
      multiply_step<kTwoTiles>(queries + i, block.k_dim, keys + i * 64, 128);
    }
    store_sums<kTwoTiles>(scratch.scores + key, kKeys);
  }
}

template <bool kTwoTiles>
void weigh(const Bf16Attention& block, const Scratch& scratch, float* output) {
  for (std::int64_t column = 0; column < block.v_dim; column += 32) {
    float* to = output + column;
    _tile_loadd(0, to, 4 * block.v_dim);
    _tile_loadd(1, to + 16, 4 * block.v_dim);
    if (kTwoTiles) {
      _tile_loadd(2, to + 16 * block.v_dim, 4 * block.v_dim);
      _tile_loadd(3, to + 16 * block.v_dim + 16, 4 * block.v_dim);
    }
    for (std::int64_t key = 0; key < 64 * block.tiles; key += 32) {
      multiply_step<kTwoTiles>(scratch.probabilities + key, kKeys,
                               block.values + key * block.v_dim + 2 * column, 2 * block.v_dim);
    }
    store_sums<kTwoTiles>(to, block.v_dim);
  }
}

// Minus infinity where the key is behind the row or out of its window.
void hide(const Bf16Attention& block, std::int32_t position, float* scores) {
  const __m512i row = _mm512_set1_epi32(position);
  const __m512i before = _mm512_set1_epi32(
      block.window > 0 ? static_cast<std::int32_t>(position - block.window) : INT32_MIN);
  const __m512 infinity = _mm512_set1_ps(-__builtin_inff());
  for (std::int64_t key = 0; key < 64 * block.tiles; key += 16) {
    const __m512i keys = _mm512_loadu_si512(block.key_positions + key);
    const __mmask16 hidden =
        _mm512_cmpgt_epi32_mask(keys, row) | _mm512_cmple_epi32_mask(keys, before);
    _mm512_mask_store_ps(scores + key, hidden, infinity);
  }
}

float greatest(const float* scores, std::int64_t keys) {
  __m512 max[4];
  for (int i = 0; i < 4; ++i) max[i] = _mm512_load_ps(scores + 16 * i);
  for (std::int64_t key = 64; key < keys; key += 64) {
    for (int i = 0; i < 4; ++i) {
      max[i] = _mm512_max_ps(max[i], _mm512_load_ps(scores + key + 16 * i));
    }
  }
  return _mm512_reduce_max_ps(
      _mm512_max_ps(_mm512_max_ps(max[0], max[1]), _mm512_max_ps(max[2], max[3])));
}

// To probabilities; their sum.
float exponentials(const float* scores, std::int64_t keys, float slope, float max,
                   std::uint16_t* probabilities) {
  const __m512 slopes = _mm512_set1_ps(slope), offset = _mm512_set1_ps(-max * slope);
  __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  for (std::int64_t key = 0; key < keys; key += 32) {
    __m512 p[2];
    for (int i = 0; i < 2; ++i) {
      const __m512 s = _mm512_load_ps(scores + key + 16 * i);
      p[i] = exp2_coarse(_mm512_fmadd_ps(s, slopes, offset));
      sums[i] = _mm512_add_ps(sums[i], p[i]);
    }
    _mm512_store_si512(probabilities + key, (__m512i)_mm512_cvtne2ps_pbh(p[1], p[0]));
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]));
}

void soften(const Bf16Attention& block, std::int64_t query, std::int64_t in_unit,
            Scratch& scratch) {
  float* scores = scratch.scores + in_unit * kKeys;
  if (block.key_positions != nullptr) {
    hide(block, block.positions[query / block.group], scores);
  }
  const std::int64_t keys = 64 * block.tiles;
  const float slope = 1.44269504f * block.scale;
  const float before = block.max[query], here = greatest(scores, keys);
  float max = before;
  if (here > before) {
    max = block.max[query] = here;
    const __m512 factor = exp2_coarse(_mm512_set1_ps((before - here) * slope));
    block.sum[query] *= _mm512_cvtss_f32(factor);
    float* output = block.output + query * block.v_dim;
    for (std::int64_t i = 0; i < block.v_dim; i += 16) {
      _mm512_storeu_ps(output + i, _mm512_mul_ps(_mm512_loadu_ps(output + i), factor));
    }
  }
  block.sum[query] +=
      exponentials(scores, keys, slope, max, scratch.probabilities + in_unit * kKeys);
}

template <bool kTwoTiles>
void attend_unit(const Bf16Attention& block, std::int64_t first, std::int64_t count,
                 Scratch& scratch) {
  score<kTwoTiles>(block, block.queries + first * block.k_dim, scratch);
  for (std::int64_t i = 0; i < count; ++i) soften(block, first + i, i, scratch);
  memory_barrier();
  weigh<kTwoTiles>(block, scratch, block.output + first * block.v_dim);
}

}  // namespace

void attention_amx(const Bf16Attention& block) {
  if (block.tiles == 0) return;
  const UseTiles use;
  Scratch scratch;
  const std::int64_t queries = block.rows * block.group;
  std::int64_t first = 0;
  for (; first + kRows <= queries; first += kRows) attend_unit<true>(block, first, kRows, scratch);
  const std::int64_t rest = queries - first;
  if (rest == 0) return;
  configure_tiles(tiles_of_rows(rest));
  if (rest > 16) {
    attend_unit<true>(block, first, rest, scratch);
  } else {
    attend_unit<false>(block, first, rest, scratch);
  }
}

}  // namespace kv
