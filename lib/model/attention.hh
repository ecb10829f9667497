#pragma once
// Causal attention of some rows over a tiled cache, in blocks of keys with a running softmax:
// memory does not grow with the context.

#include "kv/model/kv_cache_state.hh"

#include <cstdint>
#include <span>

namespace kv {

// `queries`: rotated, [kv heads][rows][group][k_dim], `group` query heads to a KV head.
// Scores go over the square root of `score_scalar`. `out`: [rows][query heads][v_dim].
template <typename T>
void attend(const KvCache::State& cache, std::int64_t layer, const T* queries, std::int64_t group,
            double score_scalar, std::span<const std::int32_t> row_positions, T* out);

// Whether the CPU multiplies T in tiles (LibTorch's brgemm).
template <typename T>
bool attention_supported();

}  // namespace kv
