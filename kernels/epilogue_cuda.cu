#include "cuda_launch.hh"
#include "float_bits.hh"
#include "int8_dot_cuda.hh"

#include <cstring>
#include <stdexcept>

namespace kv {
namespace {

// A block of 256 threads makes 32 outputs of 32 tokens: first a thread a quad of a token, tokens
// side by side, then, by way of shared memory, a thread a value of a row of x, outputs side by
// side.
constexpr int kSide = 32, kThreads = 256;

__device__ int shift(unsigned a, int s) {
  if (s >= 0) return static_cast<int>(a << s);
  return static_cast<int>(a + (1u << (-s - 1))) >> -s;
}

// Never one multiply-add: that rounds once.
__device__ float multiply_then_add(float value, float unit, float mean) {
#ifdef __CUDA_ARCH__
  return __fadd_rn(mean, __fmul_rn(value, unit));
#else
  const float product = value * unit;
  return mean + product;
#endif
}

__device__ void store(const Reconstruction& job, std::int64_t at, float value) {
  std::uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  if (job.x_type == EpilogueType::kF32) {
    static_cast<float*>(job.x)[at] = value;
  } else {
    static_cast<std::uint16_t*>(job.x)[at] =
        job.x_type == EpilogueType::kF16 ? f16_of_bits(bits) : bf16_of_bits(bits);
  }
}

__global__ void __launch_bounds__(kThreads) reconstruct_tile(Reconstruction job) {
  __shared__ float x[kSide * (kSide + 1)];  // [token][output]
  const int lane = static_cast<int>(threadIdx.x) % kSide,
            group = static_cast<int>(threadIdx.x) / kSide;
  const std::int64_t first_token = static_cast<std::int64_t>(blockIdx.x) * kSide;
  const std::int64_t first_output = static_cast<std::int64_t>(blockIdx.y) * kSide;
  const std::int64_t t = first_token + lane, quad_output = first_output + 4 * group;
  if (t < job.tokens && quad_output < job.outputs) {
    std::uint8_t bytes[4];
    for (int i = 0; i < 4; ++i) {
      const std::int64_t c = quad_output + i;
      const auto r = static_cast<unsigned>(job.r[c * job.r_stride + t]);
      const auto p = job.p ? static_cast<unsigned>(job.p[c * job.p_stride + t]) : 0u;
      const int v = static_cast<int>(p + static_cast<unsigned>(shift(r * job.m[t], job.s[t])));
      const int n = shift(static_cast<unsigned>(v), -job.f[c]);
      bytes[i] = static_cast<std::uint8_t>((n < -127 ? -127 : n > 127 ? 127 : n) + 128);
      x[lane * (kSide + 1) + 4 * group + i] =
          multiply_then_add(static_cast<float>(v), job.unit[c], job.mean[c]);
    }
    if (job.n) {
      memcpy(__builtin_assume_aligned(job.n + (quad_output / 4 * job.n_stride + t) * 4, 4), bytes,
             4);
    }
  }
  if (!job.x) return;  // the same for all threads
  __syncthreads();
  for (int token = group; token < kSide; token += kThreads / kSide) {
    if (first_token + token < job.tokens && first_output + lane < job.outputs) {
      store(job, (first_token + token) * job.x_stride + first_output + lane,
            x[token * (kSide + 1) + lane]);
    }
  }
}

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

}  // namespace

void reconstruct_cuda(const Reconstruction& job, void* stream) {
  require(job.outputs >= 0 && job.outputs % 4 == 0 && job.outputs <= 1 << 20,
          "reconstruct_cuda: outputs are not a multiple of 4");
  require(job.tokens >= 0 && job.tokens % 16 == 0 && job.tokens <= std::int64_t{1} << 35,
          "reconstruct_cuda: tokens are not a multiple of 16");
  require(job.r_stride >= job.tokens && (!job.p || job.p_stride >= job.tokens) &&
              (!job.n || job.n_stride >= job.tokens) && (!job.x || job.x_stride >= job.outputs),
          "reconstruct_cuda: rows overlap");
  if (job.tokens == 0 || job.outputs == 0) return;
  const auto columns = static_cast<unsigned>((job.tokens + kSide - 1) / kSide);
  const auto rows = static_cast<unsigned>((job.outputs + kSide - 1) / kSide);
  cuda_launch(reconstruct_tile, dim3(columns, rows), dim3(kThreads), stream, job);
}

}  // namespace kv
