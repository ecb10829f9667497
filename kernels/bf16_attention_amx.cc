#include "bf16_attention_targets.hh"
#include "bf16_tiles.hh"
#include "exp2_avx512.hh"

namespace kv {
namespace {

// Queries and keys at a time: two tiles, and as many keys as let two rounds of scores and
// probabilities, 48 KB, stay in the first-level cache.
constexpr std::int64_t kRows = 32, kKeys = 128;

struct Scratch {
  alignas(64) float scores[2][kRows * kKeys];
  alignas(64) std::uint16_t probabilities[2][kRows * kKeys];
};

// Some queries and some keys: what is scored, softened and weighed at a time.
struct Part {
  std::int64_t query, queries, key, keys;
};

// `meanwhile` is called at each step of the tiles, which leave the vectors idle.
template <bool kTwoTiles, typename F>
void score(const Bf16Attention& block, const Part& part, float* scores, F&& meanwhile) {
  const std::uint16_t* queries = block.queries + part.query * block.k_dim;
  for (std::int64_t key = part.key; key < part.key + part.keys; key += 32, scores += 32) {
    const std::uint16_t* keys = block.keys + key / 64 * 64 * block.k_dim + key % 64 * 2;
    zero_sums<kTwoTiles>();
    for (std::int64_t i = 0; i < block.k_dim; i += 32) {
      const std::uint16_t* right = keys + i * 64;
      multiply_step<kTwoTiles>(queries + i, block.k_dim, right, right + 32, 128);
      meanwhile();
    }
    store_sums<kTwoTiles>(scores, kKeys);
  }
}

template <bool kTwoTiles, typename F>
void weigh(const Bf16Attention& block, const Part& part, const std::uint16_t* probabilities,
           F&& meanwhile) {
  const std::uint16_t* values = block.values + part.key * block.v_dim;
  for (std::int64_t column = 0; column < block.v_dim; column += 32) {
    float* to = block.output + part.query * block.v_dim + column;
    load_sums<kTwoTiles>(to, block.v_dim);
    for (std::int64_t key = 0; key < part.keys; key += 32) {
      const std::uint16_t* right = values + key * block.v_dim + 2 * column;
      multiply_step<kTwoTiles>(probabilities + key, kKeys, right, right + 32, 2 * block.v_dim);
      meanwhile();
    }
    store_sums<kTwoTiles>(to, block.v_dim);
  }
}

// Minus infinity where the key is behind the row or out of its window.
void hide(const Bf16Attention& block, std::int32_t position, const Part& part, float* scores) {
  const __m512i row = _mm512_set1_epi32(position);
  const __m512i before = _mm512_set1_epi32(
      block.window > 0 ? static_cast<std::int32_t>(position - block.window) : INT32_MIN);
  const __m512 infinity = _mm512_set1_ps(-__builtin_inff());
  for (std::int64_t key = 0; key < part.keys; key += 16) {
    const __m512i keys = _mm512_loadu_si512(block.key_positions + part.key + key);
    const __mmask16 hidden =
        _mm512_cmpgt_epi32_mask(keys, row) | _mm512_cmple_epi32_mask(keys, before);
    // All of it is stored: what a masked store wrote could not be read back at once.
    const __m512 seen = _mm512_mask_mov_ps(_mm512_load_ps(scores + key), hidden, infinity);
    _mm512_store_ps(scores + key, seen);
  }
}

__m512 greatest(const float* scores, std::int64_t keys) {
  __m512 max[4];
  for (int i = 0; i < 4; ++i) max[i] = _mm512_load_ps(scores + 16 * i);
  for (std::int64_t key = 64; key < keys; key += 64) {
    for (int i = 0; i < 4; ++i) {
      max[i] = _mm512_max_ps(max[i], _mm512_load_ps(scores + key + 16 * i));
    }
  }
  return _mm512_max_ps(_mm512_max_ps(max[0], max[1]), _mm512_max_ps(max[2], max[3]));
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

void soften_row(const Bf16Attention& block, std::int64_t query, const Part& part, float* scores,
                std::uint16_t* probabilities) {
  if (block.key_positions != nullptr) {
    hide(block, block.positions[query / block.group], part, scores);
  }
  const float slope = 1.44269504f * block.scale;
  const float before = block.max[query];
  const __m512 max = greatest(scores, part.keys);
  if (_mm512_cmp_ps_mask(max, _mm512_set1_ps(before), _CMP_GT_OQ) != 0) {
    const float here = block.max[query] = _mm512_reduce_max_ps(max);
    const __m512 factor = exp2_coarse(_mm512_set1_ps((before - here) * slope));
    block.sum[query] *= _mm512_cvtss_f32(factor);
    float* output = block.output + query * block.v_dim;
    for (std::int64_t i = 0; i < block.v_dim; i += 16) {
      _mm512_storeu_ps(output + i, _mm512_mul_ps(_mm512_loadu_ps(output + i), factor));
    }
  }
  block.sum[query] += exponentials(scores, part.keys, slope, block.max[query], probabilities);
}

// The softmax of a part, some rows at a time.
class Softening {
 public:
  Softening(const Bf16Attention& block, const Part& part, float* scores,
            std::uint16_t* probabilities)
      : block_(block), part_(part), scores_(scores), probabilities_(probabilities) {}

  void operator()() {
    for (int i = 0; i < 2 && row_ < part_.queries; ++i) {
      soften_row(block_, part_.query + row_, part_, scores_ + row_ * kKeys,
                 probabilities_ + row_ * kKeys);
      ++row_;
    }
  }
  void finish() {
    while (row_ < part_.queries) (*this)();
    memory_barrier();
  }

 private:
  const Bf16Attention& block_;
  Part part_;
  float* scores_;
  std::uint16_t* probabilities_;
  std::int64_t row_ = 0;
};

// `units` of `size` queries each, of which one follows the other through the same keys, so that
// while one is softened the next is scored and the one before is weighed.
template <bool kTwoTiles>
void attend_units(const Bf16Attention& block, std::int64_t first, std::int64_t units,
                  std::int64_t size, Scratch& scratch) {
  const std::int64_t all_keys = block.tiles * Bf16Attention::kTileKeys;
  const std::int64_t count = (all_keys + kKeys - 1) / kKeys * units;
  const auto part_of = [&](std::int64_t i) {
    const std::int64_t key = i / units * kKeys;
    return Part{first + i % units * size, size, key,
                all_keys - key < kKeys ? all_keys - key : kKeys};
  };
  const auto idle = [] {};
  score<kTwoTiles>(block, part_of(0), scratch.scores[0], idle);
  for (std::int64_t i = 0; i < count; ++i) {
    Softening softening(block, part_of(i), scratch.scores[i % 2], scratch.probabilities[i % 2]);
    const auto* before = scratch.probabilities[1 - i % 2];
    // The rows that are softened are the same: their output is weighed first.
    if (units == 1 && i > 0) weigh<kTwoTiles>(block, part_of(i - 1), before, idle);
    if (i + 1 < count) {
      score<kTwoTiles>(block, part_of(i + 1), scratch.scores[1 - i % 2], softening);
    }
    if (units > 1 && i > 0) weigh<kTwoTiles>(block, part_of(i - 1), before, softening);
    softening.finish();
  }
  weigh<kTwoTiles>(block, part_of(count - 1), scratch.probabilities[1 - count % 2], idle);
}

}  // namespace

void attention_amx(const Bf16Attention& block) {
  if (block.tiles == 0) return;
  const UseTiles use;
  Scratch scratch;
  const std::int64_t queries = block.rows * block.group, rest = queries % kRows;
  if (queries >= kRows) attend_units<true>(block, 0, queries / kRows, kRows, scratch);
  if (rest == 0) return;
  configure_tiles(tiles_of_rows(rest));
  if (rest > 16) {
    attend_units<true>(block, queries - rest, 1, rest, scratch);
  } else {
    attend_units<false>(block, queries - rest, 1, rest, scratch);
  }
}

}  // namespace kv
