#pragma once
// Up to 32 rows times 32 columns in bf16 by AMX: tiles 0 to 3 are sums, 4 and 5 the left side, 6
// and 7 the right one. Private to the folder, for files that are compiled for AMX_BF16. kTwoTiles:
// more than 16 rows. Strides are in values.

#include "amx_tiles.hh"

namespace kv {
namespace {

template <bool kTwoTiles>
void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  if (kTwoTiles) {
    _tile_zero(2);
    _tile_zero(3);
  }
}

// Adds the products of 32 inputs: `right` has the pairs of the first 16 columns, `right_next` those
// of the others.
template <bool kTwoTiles>
void multiply_step(const std::uint16_t* left, std::int64_t left_stride, const std::uint16_t* right,
                   const std::uint16_t* right_next, std::int64_t right_stride) {
  _tile_loadd(4, left, 2 * left_stride);
  _tile_loadd(6, right, 2 * right_stride);
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(7, right_next, 2 * right_stride);
  _tile_dpbf16ps(1, 4, 7);
  if (kTwoTiles) {
    _tile_loadd(5, left + 16 * left_stride, 2 * left_stride);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
}

template <bool kTwoTiles>
void load_sums(const float* from, std::int64_t stride) {
  _tile_loadd(0, from, 4 * stride);
  _tile_loadd(1, from + 16, 4 * stride);
  if (kTwoTiles) {
    _tile_loadd(2, from + 16 * stride, 4 * stride);
    _tile_loadd(3, from + 16 * stride + 16, 4 * stride);
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

}  // namespace
}  // namespace kv
