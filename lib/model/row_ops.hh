#pragma once
// Loops over one row at a time that a matrix library has no call for, vectorised for the CPU that
// runs them. T is float or at::BFloat16; arithmetic is f32 throughout.

#include <cstdint>

namespace kv {

// What one pass of attention over a block of keys needs besides the scores.
struct SoftmaxBlock {
  std::int64_t keys = 0;  // a multiple of 64
  float scale = 1;
  // Keys that a row may see: row position - window < key position <= row position; null if all.
  const std::int32_t* key_positions = nullptr;
  std::int64_t window = 0;
};

template <typename T>
struct RowOps {
  // out = x / rms(x) * weight
  void (*rms_norm)(const float* x, const float* weight, double epsilon, std::int64_t n, T* out);
  // The same on a head's row.
  void (*head_norm)(const T* x, const float* weight, double epsilon, std::int64_t n, T* out);
  // Pairs (i, i + half) turned by angle i.
  void (*rotate)(const T* x, const float* cos, const float* sin, std::int64_t half, T* out);
  // out = gate * sigmoid(gate) * up
  void (*silu_mul)(const T* gate, const T* up, std::int64_t n, T* out);
  void (*add)(const T* x, std::int64_t n, float* sum);
  // One row of online softmax: probabilities of this block go to `probabilities`; the running
  // maximum, sum and output row take account of it.
  void (*softmax)(const SoftmaxBlock& block, const float* scores, std::int32_t position, float& max,
                  float& sum, std::int64_t width, float* output, T* probabilities);
  void (*scale)(const float* x, float factor, std::int64_t n, T* out);
  // Sum of weights[row] * |row - x|^2 over `rows`, [count][width].
  float (*spread)(const float* weights, const float* rows, std::int64_t count, const float* x,
                  std::int64_t width);
};

template <typename T>
const RowOps<T>& row_ops();

}  // namespace kv
