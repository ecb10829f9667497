#include "kv/kernels/cuda_launch.hh"
#include "kv/kernels/epilogue_targets.hh"
#include "kv/kernels/float_bits.hh"
#include "kv/kernels/int8_dot_cuda.hh"
#include "kv/kernels/rounded_cuda.hh"

#include <cstring>
#include <stdexcept>

namespace KV_CUDA_NAMESPACE {
namespace {

// A block of 256 threads makes 32 outputs of 32 tokens: first a thread a quad of a token, tokens
// side by side, then, by way of shared memory, a thread a value of a row of x, outputs side by
// side.
constexpr int kSide = 32, kThreads = 256;
constexpr std::int64_t kMostOutputs = 1 << 14, kMostTokens = 1 << 22;  // blocks: 31 bits

__device__ int shift(unsigned a, int s) {
  if (s >= 0) return static_cast<int>(a << s);
  return static_cast<int>(a + (1u << (-s - 1))) >> -s;
}

__device__ void store(const Reconstruction& job, std::int64_t at, float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if (job.x_type == EpilogueType::kF32) {
    static_cast<float*>(job.x)[at] = value;
  } else {
    static_cast<std::uint16_t*>(job.x)[at] =
        job.x_type == EpilogueType::kF16 ? f16_of_bits(bits) : bf16_of_bits(bits);
  }
}

__global__ void reconstruct_tile(Reconstruction job, unsigned columns) {
  __shared__ float x[kSide * (kSide + 1)];  // [token][output]
  const int lane = static_cast<int>(threadIdx.x) % kSide,
            group = static_cast<int>(threadIdx.x) / kSide;
  const std::int64_t first_token = static_cast<std::int64_t>(blockIdx.x % columns) * kSide;
  const std::int64_t first_output = static_cast<std::int64_t>(blockIdx.x / columns) * kSide;
  const std::int64_t t = first_token + lane, quad_output = first_output + 4 * group;
  if (t < job.tokens && quad_output < job.outputs) {
    std::uint8_t bytes[4];
    for (int i = 0; i < 4; ++i) {
      const std::int64_t c = quad_output + i;
      const auto r = static_cast<unsigned>(job.r[c * job.r_stride + t]) << (job.g ? job.g[c] : 0);
      const auto p = job.p ? static_cast<unsigned>(job.p[c * job.p_stride + t]) : 0u;
      const int v = static_cast<int>(p + static_cast<unsigned>(shift(r * job.m[t], job.s[t])));
      const int n = shift(static_cast<unsigned>(v), -job.f[c]);
      bytes[i] = static_cast<std::uint8_t>((n < -127 ? -127 : n > 127 ? 127 : n) + 128);
      x[lane * (kSide + 1) + 4 * group + i] =
          rounded_add(job.mean[c], rounded_mul(static_cast<float>(v), job.unit[c]));
    }
    if (job.n) {
      std::memcpy(__builtin_assume_aligned(job.n + (quad_output / 4 * job.n_stride + t) * 4, 4),
                  bytes, 4);
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

template <typename T>
std::span<T> rows_of(T* data, std::int64_t rows, std::int64_t stride, std::int64_t row) {
  if (!data || rows == 0 || row == 0) return {};
  return {data, static_cast<std::size_t>((rows - 1) * stride + row)};
}

}  // namespace

void reconstruct_on_device(const Reconstruction& job) {
  require(job.outputs >= 0 && job.outputs % 4 == 0 && job.outputs <= kMostOutputs,
          "reconstruct_cuda: outputs are not a multiple of 4, or too many");
  require(job.tokens >= 0 && job.tokens % 16 == 0 && job.tokens <= kMostTokens,
          "reconstruct_cuda: tokens are not a multiple of 16, or too many");
  require(job.r_stride >= job.tokens && (!job.p || job.p_stride >= job.tokens) &&
              (!job.n || job.n_stride >= job.tokens) && (!job.x || job.x_stride >= job.outputs),
          "reconstruct_cuda: rows overlap");
  if (job.tokens == 0 || job.outputs == 0) return;
  const auto columns = static_cast<unsigned>((job.tokens + kSide - 1) / kSide);
  const auto rows = static_cast<unsigned>((job.outputs + kSide - 1) / kSide);
  cuda_launch(reconstruct_tile, columns * rows, kThreads, job, columns);
}

void reconstruct_cuda(const Reconstruction& job) {
  check(job);
  Reconstruction on = job;
  const auto tokens = static_cast<std::size_t>(job.tokens);
  const auto outputs = static_cast<std::size_t>(job.outputs);
  const std::int64_t value_bytes = job.x_type == EpilogueType::kF32 ? 4 : 2;
  const auto n = rows_of(job.n, job.outputs / 4, 4 * job.n_stride, 4 * job.tokens);
  const auto x = rows_of(static_cast<std::uint8_t*>(job.x), job.tokens, value_bytes * job.x_stride,
                         value_bytes * job.outputs);
  const DeviceArray<std::int32_t> r{rows_of(job.r, job.outputs, job.r_stride, job.tokens)};
  const DeviceArray<std::int32_t> p{rows_of(job.p, job.outputs, job.p_stride, job.tokens)};
  const DeviceArray<std::uint8_t> m{std::span(job.m, tokens)}, f{std::span(job.f, outputs)};
  const DeviceArray<std::int8_t> s{std::span(job.s, tokens)};
  const DeviceArray<std::int8_t> g{std::span(job.g, job.g ? outputs : 0)};
  const DeviceArray<float> mean{std::span(job.mean, outputs)}, unit{std::span(job.unit, outputs)};
  const DeviceArray<std::uint8_t> on_n{std::span<const std::uint8_t>(n)};
  const DeviceArray<std::uint8_t> on_x{std::span<const std::uint8_t>(x)};
  on.r = r.data(), on.p = job.p ? p.data() : nullptr;
  on.g = job.g ? g.data() : nullptr;
  on.m = m.data(), on.f = f.data(), on.s = s.data();
  on.mean = mean.data(), on.unit = unit.data();
  on.n = job.n ? on_n.data() : nullptr;
  on.x = job.x ? on_x.data() : nullptr;
  reconstruct_on_device(on);
  on_n.download(0, n);
  on_x.download(0, x);
}

}  // namespace KV_CUDA_NAMESPACE
