// The shim itself: it does what CUDA does, and what CUDA leaves undefined is an error.
#include "kv/kernels/cuda_launch.hh"

#include <doctest/doctest.h>

#include <vector>

namespace {

// Sums 4 bytes a thread over a block: dot products, shuffles in a warp, shared memory between
// warps.
__global__ void block_sum(const int* in, int* out, int* blocks_done) {
  __shared__ int of_warp[32];
  int sum = __dp4a(in[blockIdx.x * blockDim.x + threadIdx.x], 0x01010101, 0);
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, step);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    int all = 0;
    for (unsigned i = 0; i < blockDim.x / 32; ++i) all += of_warp[i];
    out[blockIdx.x] = all;
    atomicAdd(blocks_done, 1);
  }
}

__global__ void rank_odd_lanes(unsigned* out) {
  const unsigned lane = threadIdx.x % 32;
  const unsigned odd = __ballot_sync(0xFFFFFFFFu, lane % 2 == 1);
  out[threadIdx.x] = static_cast<unsigned>(__popc(odd & ((1u << lane) - 1)));
  if (lane % 2 == 1) {  // some lanes on their own
    out[threadIdx.x] += 100 * __shfl_sync(odd, lane, 31);
  }
}

__global__ void half_a_barrier() {
  if (threadIdx.x % 32 < 16) __syncwarp();
}
__global__ void two_operations() {
  if (threadIdx.x % 32 < 16) {
    __syncwarp();
  } else {
    __ballot_sync(0xFFFFFFFFu, true);
  }
}
__global__ void outside_the_mask() { __ballot_sync(1, true); }
__global__ void from_outside_the_mask(int* out) {
  if (threadIdx.x < 2) out[0] = __shfl_sync(3, 1, 5);
}

}  // namespace

TEST_CASE("threads of a block meet") {
  constexpr unsigned kBlocks = 5, kThreads = 96;
  std::vector<int> in(kBlocks * kThreads), out(kBlocks), done(1);
  std::vector<int> expected(kBlocks);
  for (unsigned i = 0; i < in.size(); ++i) {
    const int byte = static_cast<int>(i % 7) - 3;
    in[i] = static_cast<int>((static_cast<unsigned>(byte) & 0xFF) << 8 | 2);
    expected[i / kThreads] += byte + 2;
  }
  kv::DeviceArray<int> on_in{in}, on_out(kBlocks), on_done{done};
  kv::cuda_launch(block_sum, kBlocks, kThreads, on_in.data(), on_out.data(), on_done.data());
  on_out.download(0, out);
  on_done.download(0, done);
  CHECK(out == expected);
  CHECK(done[0] == kBlocks);
}

TEST_CASE("lanes of a warp meet, all or some") {
  std::vector<unsigned> out(64);
  kv::DeviceArray<unsigned> on_out(64);
  kv::cuda_launch(rank_odd_lanes, 1, 64, on_out.data());
  on_out.download(0, out);
  for (unsigned i = 0; i < 64; ++i) CHECK(out[i] == i % 32 / 2 + (i % 2 == 1 ? 3100 : 0));
}

TEST_CASE("what CUDA leaves undefined is an error") {
  kv::DeviceArray<int> out(1);
  CHECK_THROWS_AS(kv::cuda_launch(half_a_barrier, 1, 64), std::logic_error);
  CHECK_THROWS_AS(kv::cuda_launch(two_operations, 1, 32), std::logic_error);
  CHECK_THROWS_AS(kv::cuda_launch(outside_the_mask, 1, 32), std::logic_error);
  CHECK_THROWS_AS(kv::cuda_launch(from_outside_the_mask, 1, 32, out.data()), std::logic_error);
  CHECK_THROWS_AS(kv::cuda_launch(half_a_barrier, 1, 2000), std::logic_error);
  std::vector<int> two(2);
  CHECK_THROWS_AS(out.download(0, two), std::logic_error);
}
