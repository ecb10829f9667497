#pragma once
// What follows the products of int8_dot.hh: the residual and the prediction become the values that
// the next products need, and the values that go into the cache.

#include <cstdint>
#include <span>

namespace kv {

enum class EpilogueType { kF32, kF16, kBF16 };

// For outputs c (a multiple of 4) and tokens t (a multiple of 16), in integers of 32 bits that
// wrap:
//   v       = p[c][t] + shift((r[c][t] << g[c]) * m[t], s[t])
//             shift(a, s) = a << s for s >= 0, (a + (1 << (-s - 1))) >> -s for s < 0, arithmetic
//   n[c][t] = clamp((v + (1 << (f[c] - 1))) >> f[c], -127, 127) + 128
//   x[t][c] = mean[c] + float(v) * unit[c]
// in f32 with a rounding after each of the three operations, then rounded to the type of x; always
// to nearest, ties to even, and without flushing subnormals, as a thread starts. The result is
// meaningful where |(r << g) * m| < 2^30 and v fits 31 bits, and the same everywhere in any case.
struct Reconstruction {
  std::int64_t outputs = 0, tokens = 0;
  const std::int32_t* r = nullptr;  // [outputs][r_stride]
  std::int64_t r_stride = 0;
  const std::int8_t* g = nullptr;   // [outputs], 0 to 15; null: all 0
  const std::int32_t* p = nullptr;  // [outputs][p_stride]; null: zero
  std::int64_t p_stride = 0;
  const std::uint8_t* m = nullptr;  // [tokens]
  const std::int8_t* s = nullptr;   // [tokens], -24 to 16
  const std::uint8_t* f = nullptr;  // [outputs], 1 to 24
  const float* mean = nullptr;      // [outputs], finite
  const float* unit = nullptr;      // [outputs], finite
  std::uint8_t* n = nullptr;        // quad layout [outputs / 4][n_stride][4]; null: not wanted
  std::int64_t n_stride = 0;        // in tokens
  void* x = nullptr;                // [tokens][x_stride] of x_type; null: not wanted
  std::int64_t x_stride = 0;        // in values
  EpilogueType x_type = EpilogueType::kBF16;
};

// Scalar is the definition; the others give the same bits.
enum class EpilogueTarget { kScalar, kAvx2, kAvx512 };
const char* epilogue_target_name(EpilogueTarget target);
// What this machine and this build can run, the fastest first, kScalar last.
std::span<const EpilogueTarget> epilogue_targets();
// For tests and benchmarks: what all threads use from now on. Throws std::invalid_argument if it is
// not one of epilogue_targets().
void set_epilogue_target(EpilogueTarget target);

// Throws std::invalid_argument for sizes, strides, s, f, mean or unit out of range. Returns the
// target that did the work, as that target's code says itself.
EpilogueTarget reconstruct(const Reconstruction& job);

}  // namespace kv
