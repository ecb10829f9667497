#pragma once
// What a layer does to rows besides attention, by the products of kernels/: some rows at a time go
// from one product to the next while they are in the cache. Needs LayerWeights::by_kernels.

#include "kv/model/weights.hh"

#include <c10/util/BFloat16.h>

#include <cstdint>

namespace kv {

// norm and projection: `hidden` [rows][hidden] becomes `qkv` [rows][query | key | value].
void project_rows(const LayerWeights& weights, double rms_epsilon, const float* hidden,
                  std::int64_t rows, c10::BFloat16* qkv);

// Adds what attention gave to the rows, projected, then the MLP's share.
void finish_rows(const LayerWeights& weights, double rms_epsilon, const c10::BFloat16* attended,
                 std::int64_t rows, float* hidden);

}  // namespace kv
