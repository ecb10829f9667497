#pragma once
// Many floats from one dtype to another, and keys turned by the way: the bits of convert() and
// RopeTable::turn(), by whole vectors. Private to the folder.

#include "kv/container/tensor.hh"

namespace kv {

// f32, f16 and bf16; convert_floats() of two of them. The spans are of as many values.
bool has_float_rows(DType dtype);
void convert_floats(ByteView from, DType from_type, std::span<std::byte> to, DType to_type);

// One position's keys [heads][2 * half].
struct TurnedRow {
  const float* cosines;
  const float* sines;  // [half]
  std::size_t half;    // a multiple of kTurnedMultiple
};
constexpr std::size_t kTurnedMultiple = 16;
void turn_floats(ByteView from, DType from_type, const TurnedRow& row, std::span<std::byte> to,
                 DType to_type);

}  // namespace kv
