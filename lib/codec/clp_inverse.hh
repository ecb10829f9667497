#pragma once
// The inverse of a profile's basis, which only encoders need. Private to the folder.

#include <cstdint>

namespace kv {

// Rows of a matrix to invert begin so many values apart; what lies between them is anybody's.
constexpr std::int64_t inverse_stride(std::int64_t n) { return (n + 31) / 32 * 32; }

// Turns n x n values into their inverse, in place and in f32. `n` is a multiple of 4. Of a matrix
// that has none it makes values that are huge or not finite.
void invert(float* matrix, std::int64_t n);

}  // namespace kv
