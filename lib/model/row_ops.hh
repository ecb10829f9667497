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

// Keys whose importance grows by what some rows see in them: importance.hh.
struct WeighedKeys {
  std::int64_t count = 0;  // a multiple of 64
  const std::int32_t* positions = nullptr;
  const float* squares = nullptr;  // |v|^2
  std::int64_t nearest = 0;        // least distance that counts
  std::int64_t window = 0;         // 0, or what all distances are below
  float *key_sums = nullptr, *value_sums = nullptr;
};
struct WeighingRows {
  std::int64_t count = 0;
  const std::int32_t* positions = nullptr;
  const float* attention = nullptr;  // [rows][attention_stride], to each key, times 1 / inverses
  std::int64_t attention_stride = 0;
  const float* inverses = nullptr;
  const float* products = nullptr;  // [rows][keys], o v
  const float* squares = nullptr;   // |o|^2
};

template <typename T>
struct RowOps {
  // out = x / rms(x) * weight
  void (*rms_norm)(const float* x, const float* weight, double epsilon, std::int64_t n, T* out);
  // The same on a head's row.
  void (*head_norm)(const T* x, const float* weight, double epsilon, std::int64_t n, T* out);
  // Pairs (i, i + half) turned by angle i.
  void (*rotate)(const T* x, const float* cos, const float* sin, std::int64_t half, T* out);
  // So `count` rows, each by its own angles [count][half], to rows that follow each other.
  void (*rotate_rows)(const T* x, std::int64_t stride, const float* cos, const float* sin,
                      std::int64_t half, std::int64_t count, T* out);
  // out = gate * sigmoid(gate) * up
  void (*silu_mul)(const T* gate, const T* up, std::int64_t n, T* out);
  // out = gelu(gate) * up, GELU by tanh
  void (*gelu_mul)(const T* gate, const T* up, std::int64_t n, T* out);
  void (*add)(const T* x, std::int64_t n, float* sum);
  // sum += x / rms(x) * weight
  void (*add_normed)(const float* x, const float* weight, double epsilon, std::int64_t n,
                     float* sum);
  // One row of online softmax: probabilities of this block go to `probabilities`; the running
  // maximum, sum and output row take account of it.
  void (*softmax)(const SoftmaxBlock& block, const float* scores, std::int32_t position, float& max,
                  float& sum, std::int64_t width, float* output, T* probabilities);
  void (*scale)(const float* x, float factor, std::int64_t n, T* out);
  void (*weigh)(const WeighedKeys& keys, const WeighingRows& rows);
  // To a cache's tiles (kv_cache_state.hh), whose units are 4 bytes. Keys of 16 slots, [16][dim],
  // unit i of each to out[i][64]; and values of a pair of slots, one after the other (bf16 only).
  void (*spread_keys)(const T* rows, std::int64_t dim, T* out);
  void (*pair_values)(const T* first, const T* second, std::int64_t dim, T* out);
};

template <typename T>
const RowOps<T>& row_ops();

}  // namespace kv
