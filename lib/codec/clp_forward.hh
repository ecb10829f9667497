#pragma once
// The encoder's work in f32, for whole steps of tokens. Not exact: two machines may choose
// different coefficients, but decode the same from either. Private to the folder.

#include <cstdint>

namespace kv {

// What is left of rows beside their mean and prediction, by channel:
// out[c][t] = (rows[t][c] - mean[c] - predicted[c][t] * unit[c]) * inverse_width[c], and
// largest_bits() of it. `channels` is a multiple of 4, `tokens` one of 16; rows of `out` are
// `tokens` apart. `predicted` may be null: 0; so may be `inverse_width`: 1.
struct RestJob {
  const void* rows;  // f32, or as they are:
  bool bf16;
  std::int64_t channels, tokens;
  const float *mean, *unit, *inverse_width;
  const std::int32_t* predicted;
  std::int64_t predicted_stride;
  float* out;
  std::int32_t* largest;  // [tokens]
};
void rest_by_channel(const RestJob& job);

// out[k][t] = sum over c of matrix[k][c] * in[c][t]. `tokens` is a multiple of 32; rows of `in` and
// `out` are `tokens` apart.
void forward_transform(const float* matrix, std::int64_t channels, const float* in,
                       std::int64_t tokens, float* out);

// The bits of the largest magnitude of each token: from 0x7F800000 on something is not finite.
// `tokens` is a multiple of 16.
void largest_bits(const float* coefficients, std::int64_t channels, std::int64_t tokens,
                  std::int32_t* bits);

// The same product from integers of 15 bits, each as two of 8, high and low, so that the kernels of
// int8_dot.hh make it: x / width[c], as a share of the token's largest such value, which becomes
// 127 * 128. `scale` gets what one of these is worth, NaN for a token that is not finite.
struct SplitJob {
  const float* rest;  // [channels][tokens], as rest_by_channel() divides it
  const std::int32_t* largest;
  std::int64_t channels, tokens;
  std::uint8_t *high, *low;  // quads, [channels / 4][tokens][4]
  float* scale;              // [tokens]
};
void split_rest(const SplitJob& job);
// out[k][t] = (128 * high[k][t] + mixed[k][t]) * row_scale[k] * scale[t]; `largest` is raised to
// largest_bits() of it.
struct JoinJob {
  const std::int32_t *high, *mixed;  // [channels][stride]
  std::int64_t channels, tokens, stride;
  const float *row_scale, *scale;
  float* out;  // [channels][out_stride]
  std::int64_t out_stride;
  std::int32_t* largest;  // [tokens]
};
void join_sums(const JoinJob& job);

// Coefficients of tokens to quads: x * scale[t], to 0 where its magnitude is below
// thresholds[k][row[t]], else to the nearest integer within -127 to 127. NaN becomes 0.
inline constexpr std::int64_t kThresholds = 33;  // a coefficient
inline constexpr std::size_t kThresholdsRoom = 16;
struct QuantiseJob {
  const float* coefficients;  // [channels][tokens]
  std::int64_t channels, tokens;
  const float* scale;
  const std::int32_t* row;
  const float* thresholds;  // [channels][kThresholds], and kThresholdsRoom more
  std::uint8_t* quads;      // [channels / 4][quads_stride][4], plus 128
  std::int64_t quads_stride;
};
void quantise(const QuantiseJob& job);

}  // namespace kv
