#pragma once
// The loops that targets with vectors share: a lane is a token, a 32-bit lane holds its quad, and a
// quad of weights is broadcast to all lanes. Private to the folder; included by one file a target
// and all in its own unnamed namespace, see int8_dot_targets.hh.
//
// `V` has: Acc (a vector of kLanes int32), X (kLanes quads of activations, kXBytes in the panel),
// kLanes, kVectors (of a panel), kRows (outputs at a time), kQuads (of a panel), kCentred
// (multiplies x - 128, so that there is no bias), and the functions used below.

#include "int8_dot_targets.hh"

namespace kv {
namespace {

inline std::int32_t quad_of_weights(const std::int8_t* at) {
  std::int32_t quad;
  __builtin_memcpy(&quad, at, sizeof(quad));
  return quad;
}

// Quads of a panel whose weights follow one another in a tile.
struct QuadRun {
  std::int32_t offset, quads;
};

// kRows outputs x kVectors vectors of tokens, in registers.
template <class V, int kRows, int kVectors>
void multiply_rows(const DotJob& job, std::int64_t first_quad, const QuadRun* runs,
                   std::int64_t run_count, const std::uint8_t* panel, std::int64_t output,
                   std::int64_t token) {
  typename V::Acc acc[kRows][kVectors];
  const std::int64_t rows = job.outputs - output < kRows ? job.outputs - output : kRows;
  std::int32_t* out = job.out + output * job.out_stride + token;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      if (first_quad == 0) {
        acc[r][v] = V::set(V::kCentred || r >= rows ? 0 : job.bias[output + r]);
      } else {
        acc[r][v] = r < rows ? V::load(out + r * job.out_stride + v * V::kLanes) : V::set(0);
      }
    }
  }
  const std::int8_t* weights[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    const std::int64_t c = output + (r < rows ? r : 0);
    weights[r] = job.tiles + c / kTileOutputs * job.input_tiles * kTileBytes +
                 c % kTileOutputs * kTileRowBytes;
  }
  // Few scalar instructions: they would take the products' places.
  for (std::int64_t run = 0; run < run_count; ++run) {
    const std::int64_t end = runs[run].offset + 4 * runs[run].quads;
#pragma GCC unroll 4
    for (std::int64_t at = runs[run].offset; at != end; at += 4) {
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
    for (int v = 0; v < kVectors; ++v) {
      V::store(out + r * job.out_stride + v * V::kLanes, acc[r][v]);
    }
  }
}

// All outputs for the tokens of one panel: first copied together, for rows that are a power of two
// apart would fight for the same lines of the cache.
template <class V, int kVectors>
void multiply_panel(const DotJob& job, std::int64_t first_quad, std::int64_t token) {
  alignas(64) std::uint8_t panel[V::kQuads * V::kVectors * V::kXBytes];
  QuadRun runs[V::kQuads];
  std::int64_t run_count = 0;
  const std::int64_t left = job.quad_count - first_quad;
  const std::int64_t quads = left < V::kQuads ? left : V::kQuads;
  for (std::int64_t i = 0; i < quads; ++i) {
    const std::int32_t q = job.quads[first_quad + i];
    if (i > 0 && q % kTileQuads != 0 && job.quads[first_quad + i - 1] == q - 1) {
      ++runs[run_count - 1].quads;
    } else {
      runs[run_count++] = {
          static_cast<std::int32_t>(q / kTileQuads * kTileBytes + q % kTileQuads * 4), 1};
    }
    for (int v = 0; v < kVectors; ++v) {
      V::pack(panel + (i * kVectors + v) * V::kXBytes,
              job.rows[first_quad + i] + 4 * (token + v * V::kLanes));
    }
  }
  for (std::int64_t output = 0; output < job.outputs; output += V::kRows) {
    multiply_rows<V, V::kRows, kVectors>(job, first_quad, runs, run_count, panel, output, token);
  }
}

template <class V>
void multiply(const DotJob& job) {
  constexpr std::int64_t step = V::kVectors * V::kLanes;
  for (std::int64_t token = 0; token < job.tokens; token += step) {
    std::int64_t first = 0;
    do {  // once even without a quad: the result is zero then
      if (job.tokens - token >= step) {
        multiply_panel<V, V::kVectors>(job, first, token);
      } else {
        for (std::int64_t t = token; t < job.tokens; t += 16) {
          multiply_panel<V, 16 / V::kLanes>(job, first, t);
        }
      }
      first += V::kQuads;
    } while (first < job.quad_count);
  }
}

}  // namespace
}  // namespace kv
