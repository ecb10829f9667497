#pragma once
// CUDA's words for a C++ compiler, so that a .cu file is tested without a GPU: the threads of a
// block are fibers of one CPU thread, resumed in turn from one barrier to the next; blocks run one
// after another. What a GPU would leave undefined is an error here: lanes of a mask that wait at
// different operations, a lane that is not in its own mask, a barrier that some threads never
// reach.
//
// Only what the kernels use. No warp runs in lockstep between barriers, so a missing __syncwarp
// shows as wrong results sooner than on a GPU.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __shared__ static  // blocks run one after another

namespace kv {

namespace cuda_shim {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

// Indices of the fiber that is running.
struct Place {
  Dim3 thread, block, block_size, grid;
};
const Place& place();

// Runs `body` once for each thread of each block. Throws std::logic_error on misuse of a barrier,
// and what a thread throws.
void run_grid(unsigned blocks, unsigned threads, const std::function<void()>& body);

// All threads of the block that have not returned.
void sync_block();

// The lanes of the mask meet at the same operation, each with a value; returns the 32 of them,
// valid until this thread's next meeting.
enum class Operation { kSync, kBallot, kShuffle, kShuffleXor };
const std::uint64_t* meet(Operation operation, unsigned mask, std::uint64_t value);
unsigned lane();

template <typename T>
T shuffle(Operation operation, unsigned mask, T value, unsigned source) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  const std::uint64_t* all = meet(operation, mask, bits);
  if (!(mask >> source & 1)) throw std::logic_error("shuffle from a lane outside the mask");
  std::memcpy(&value, all + source, sizeof(T));
  return value;
}

}  // namespace cuda_shim

inline bool cuda_has_device() { return true; }

template <typename... Parameters, typename... Arguments>
void cuda_launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads,
                 const Arguments&... arguments) {
  cuda_shim::run_grid(blocks, threads, [&] { kernel(arguments...); });
}

// Of exactly this size and full of a pattern, so that the sanitizers and wrong results show what is
// read beside it or before it is written.
template <typename T>
requires std::is_trivially_copyable_v<T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t count) : data_(new T[count]), count_(count) {
    std::memset(static_cast<void*>(data_.get()), 0xA5, count * sizeof(T));
  }
  explicit DeviceArray(std::span<const T> from) : DeviceArray(from.size()) { upload(from); }

  T* data() const { return data_.get(); }
  void upload(std::span<const T> from) { std::copy(from.begin(), from.end(), data_.get()); }
  void download(std::size_t offset, std::span<T> to) const {
    if (offset > count_ || to.size() > count_ - offset) throw std::logic_error("copy out of range");
    std::copy_n(data_.get() + offset, to.size(), to.begin());
  }

 private:
  std::unique_ptr<T[]> data_;
  std::size_t count_;
};

}  // namespace kv

#define threadIdx (kv::cuda_shim::place().thread)
#define blockIdx (kv::cuda_shim::place().block)
#define blockDim (kv::cuda_shim::place().block_size)
#define gridDim (kv::cuda_shim::place().grid)

inline void __syncthreads() { kv::cuda_shim::sync_block(); }
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu) {
  kv::cuda_shim::meet(kv::cuda_shim::Operation::kSync, mask, 0);
}
inline unsigned __ballot_sync(unsigned mask, bool predicate) {
  const std::uint64_t* all =
      kv::cuda_shim::meet(kv::cuda_shim::Operation::kBallot, mask, predicate ? 1 : 0);
  unsigned ballot = 0;
  for (unsigned i = 0; i < 32; ++i) {
    if (mask >> i & 1) ballot |= static_cast<unsigned>(all[i]) << i;
  }
  return ballot;
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int source) {
  return kv::cuda_shim::shuffle(kv::cuda_shim::Operation::kShuffle, mask, value,
                                static_cast<unsigned>(source) % 32);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits) {
  return kv::cuda_shim::shuffle(kv::cuda_shim::Operation::kShuffleXor, mask, value,
                                kv::cuda_shim::lane() ^ static_cast<unsigned>(bits));
}
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(std::uint64_t{a} * b >> 32);
}
// Four products of signed bytes and a sum, all modulo 2^32.
inline int __dp4a(int a, int b, int c) {
  unsigned sum = static_cast<unsigned>(c);
  for (int i = 0; i < 4; ++i) {
    const int x = static_cast<std::int8_t>(a >> (8 * i)),
              y = static_cast<std::int8_t>(b >> (8 * i));
    sum += static_cast<unsigned>(x * y);
  }
  return static_cast<int>(sum);
}
template <typename T>
T atomicAdd(T* address, T value) {
  const T before = *address;  // fibers do not interrupt each other
  *address = static_cast<T>(before + value);
  return before;
}
