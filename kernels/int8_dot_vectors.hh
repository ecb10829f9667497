#pragma once
// The loops that targets with vectors share: a lane is a token, a 32-bit lane holds its quad, and a
// quad of weights is broadcast to all lanes. Private to the folder; included by one file a target
// and all in its own unnamed namespace, see int8_dot_targets.hh.
//
// `V` has: Acc (a vector of kLanes int32), X (kLanes quads of activations, kXBytes in the panel),
// kLanes, kVectors (of a panel: so few that a panel of 192 quads leaves room in the first-level
// cache), kRows (outputs at a time), kGroup (outputs of a block, a multiple of kRows and 4),
// kCentred (multiplies x - 128, so that there is no bias), and the functions used below.

#include "int8_dot_targets.hh"

namespace kv {
namespace {

inline std::int32_t quad_of_weights(const std::int8_t* at) {
  std::int32_t quad;
  __builtin_memcpy(&quad, at, sizeof(quad));
  return quad;
}

// kRows outputs x kVectors vectors of tokens, in registers; of `rows` of them the sums are stored.
template <class V, int kRows, int kVectors>
void multiply_rows(const DotFactor& factor, const std::uint8_t* panel, std::int64_t output,
                   std::int64_t rows, std::int32_t* out, std::int64_t stride) {
  typename V::Acc acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      acc[r][v] = V::set(V::kCentred || r >= rows ? 0 : factor.bias[output + r]);
    }
  }
  const std::int64_t row_tiles = factor.input_tiles * kTileBytes;
  const auto row_of = [&](std::int64_t c) {
    return factor.tiles + c / kTileOutputs * row_tiles + c % kTileOutputs * kTileRowBytes;
  };
  // One pointer where all rows are of one tile, which has rows beyond the outputs, too.
  constexpr bool kOneTile = kTileOutputs % kRows == 0;
  const std::int8_t* weights[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    weights[r] =
        kOneTile ? row_of(output) + r * kTileRowBytes : row_of(output + (r < rows ? r : 0));
  }
  // Few scalar instructions: they would take the products' places.
  for (std::int64_t run = 0; run < factor.run_count; ++run) {
    const std::int64_t end = factor.runs[run].offset + 4 * factor.runs[run].quads;
#pragma GCC unroll 4
    for (std::int64_t at = factor.runs[run].offset; at != end; at += 4) {
      typename V::X x[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) x[v] = V::load_x(panel + v * V::kXBytes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const auto w = V::broadcast(weights[r] + at);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) acc[r][v] = V::dot(acc[r][v], x[v], w);
      }
      panel += kVectors * V::kXBytes;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    if (r >= rows) break;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) V::store(out + r * stride + v * V::kLanes, acc[r][v]);
  }
}

// Fetches what the next panel will be copied from, a part of the quads at a time: they are rows of
// a page or more each, which the processor does not foresee.
template <class V>
class Ahead {
 public:
  Ahead(const DotJob& job, std::int64_t token, std::int64_t tokens)
      : job_(job), token_(token), lines_((tokens * 4 + 63) / 64) {
    std::int64_t quads = 0;
    for (int f = 0; f < job.factor_count; ++f) quads += job.factors[f].quad_count;
    const std::int64_t visits = job.factor_count * ((job.outputs + V::kRows - 1) / V::kRows);
    share_ = visits > 0 ? (quads + visits - 1) / visits : 0;
    if (job.tokens - token < tokens) factor_ = job.factor_count;  // there is no such panel
  }
  void fetch() {
    for (std::int64_t i = 0; i < share_ && factor_ < job_.factor_count; ++i) {
      const DotFactor& factor = job_.factors[factor_];
      if (quad_ == factor.quad_count) {
        quad_ = 0;
        ++factor_;
        continue;
      }
      const std::uint8_t* row = factor.rows[quad_++] + 4 * token_;
      for (std::int64_t line = 0; line < lines_; ++line) __builtin_prefetch(row + 64 * line, 0, 2);
    }
  }

 private:
  const DotJob& job_;
  std::int64_t token_, lines_, share_ = 0, quad_ = 0;
  int factor_ = 0;
};

// All outputs for the tokens of one panel: first copied together, for rows that are a power of two
// apart would fight for the same lines of the cache.
template <class V, int kVectors>
void multiply_panel(const DotJob& job, std::int64_t token) {
  constexpr std::int64_t tokens = kVectors * V::kLanes;
  const std::uint8_t* panels[kMostDotProducts];
  std::uint8_t* to = job.panel;
  for (int f = 0; f < job.factor_count; ++f) {
    const DotFactor& factor = job.factors[f];
    panels[f] = to;
    for (std::int64_t i = 0; i < factor.quad_count; ++i) {
      for (int v = 0; v < kVectors; ++v, to += V::kXBytes) {
        V::pack(to, factor.rows[i] + 4 * (token + v * V::kLanes));
      }
    }
  }
  alignas(64) std::int32_t sums[kMostDotProducts][V::kGroup * tokens];
  Ahead<V> ahead(job, token + tokens, tokens);
  for (std::int64_t output = 0; output < job.outputs; output += V::kGroup) {
    const std::int64_t left = job.outputs - output;
    const std::int64_t outputs = left < V::kGroup ? left : V::kGroup;
    std::int32_t* out = job.take ? nullptr : job.out + output * job.out_stride + token;
    const std::int64_t stride = job.take ? tokens : job.out_stride;
    for (int f = 0; f < job.factor_count; ++f) {
      std::int32_t* block = out ? out : sums[f];
      for (std::int64_t r = 0; r < outputs; r += V::kRows) {
        const std::int64_t rows = outputs - r < V::kRows ? outputs - r : V::kRows;
        multiply_rows<V, V::kRows, kVectors>(job.factors[f], panels[f], output + r, rows,
                                             block + r * stride, stride);
        ahead.fetch();
      }
    }
    if (job.take) {
      job.take(job.state, {{sums[0], sums[1]}, stride, output, outputs, token, tokens});
    }
  }
}

template <class V>
void multiply(const DotJob& job) {
  constexpr std::int64_t step = V::kVectors * V::kLanes;
  std::int64_t token = 0;
  for (; job.tokens - token >= step; token += step) multiply_panel<V, V::kVectors>(job, token);
  // Whole sixteens are left: V::kVectors of them are more than one step.
  if constexpr (step > 32) {
    for (; job.tokens - token >= 32; token += 32) multiply_panel<V, 32 / V::kLanes>(job, token);
  }
  for (; token < job.tokens; token += 16) multiply_panel<V, 16 / V::kLanes>(job, token);
}

}  // namespace
}  // namespace kv
