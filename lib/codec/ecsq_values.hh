#pragma once
// From integers of `ecsq` to values, in vectors: kv(5) "ecsq". Private to the folder.

#include "ecsq_scales.hh"
#include "kv/container/tensor.hh"
#include "quads.hh"

namespace kv {

struct EcsqValues {
  const EcsqScales* scales = nullptr;
  const TileSteps* steps = nullptr;  // of as many tokens as the tile has
  int quality = 0;
  // Of coefficients from `used` on all are 0. One of these two:
  const Quads* quads = nullptr;
  const std::int16_t* integers = nullptr;  // [coefficients][tokens]
  std::int64_t used = 0;
};
// Fills rows of a floating-point dtype: values within its finite range, rounded to it.
void write_ecsq_rows(const EcsqValues& job, DType dtype, std::span<std::byte> rows);

}  // namespace kv
