#pragma once
// The encoder's transform, in f32: out[k][t] = sum over c of matrix[k][c] * in[c][t]. Not exact:
// two machines may choose different coefficients, but decode the same from either. Private to the
// folder.

#include <cstdint>

namespace kv {

// `tokens` is a multiple of 16; rows of `in` and `out` are `tokens` apart.
void forward_transform(const float* matrix, std::int64_t channels, const float* in,
                       std::int64_t tokens, float* out);

}  // namespace kv
