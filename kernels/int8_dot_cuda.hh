#pragma once
// The CUDA twins of int8_dot.hh and epilogue.hh: the same results, bit by bit.

#include "kv/kernels/cuda_namespace.hh"
#include "kv/kernels/epilogue.hh"
#include "kv/kernels/int8_dot.hh"

#include <cstdint>
#include <optional>
#include <span>

namespace KV_CUDA_NAMESPACE {

// False in a build without CUDA, and on a machine without a device.
bool int8_dot_has_cuda();

inline constexpr int kCudaDotBlocks = 5;

// All pointers are of the device's memory. Sizes are as in int8_dot.hh.
struct CudaDot {
  const std::int8_t* tiles = nullptr;  // a copy of Int8Weights::tiles()
  std::int64_t outputs = 0, inputs = 0;
  QuadBlock blocks[kCudaDotBlocks];      // data 4-byte aligned; those without channels do not count
  const std::int32_t* active = nullptr;  // ascending quads, which the caller has checked; null: all
  std::int64_t active_count = 0;
  std::int64_t tokens = 0;
  std::int32_t* out = nullptr;
  std::int64_t out_stride = 0;
};

// Throw std::invalid_argument for sizes that do not fit, std::runtime_error without a device or
// when it fails.
void int8_dot_on_device(const CudaDot& job);

// All pointers but those of `job` itself are of the device's memory, n is 4-byte aligned, and the
// caller has made sure of the ranges of s, f, mean and unit.
void reconstruct_on_device(const Reconstruction& job);

// The same from memory of the host to memory of the host, with all checks; to try and to test.
void int8_dot_cuda(const Int8Weights& weights, std::span<const QuadBlock> blocks,
                   std::optional<std::span<const std::int32_t>> active, std::int64_t tokens,
                   std::int32_t* out, std::int64_t out_stride);
void reconstruct_cuda(const Reconstruction& job);

}  // namespace KV_CUDA_NAMESPACE
