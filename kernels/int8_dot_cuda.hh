#pragma once
// The CUDA twins of int8_dot.hh and epilogue.hh: the same results, bit by bit. All pointers are of
// device memory, and sizes and contents are as there, checked by the caller; what can be checked on
// the host is, and throws std::invalid_argument.

#include "epilogue.hh"
#include "int8_dot.hh"

#include <cstdint>

namespace kv {

inline constexpr int kCudaDotBlocks = 5;

struct CudaDot {
  const std::int8_t* tiles =
      nullptr;  // a copy of Int8Weights::tiles(), [output_tiles][input_tiles]
  std::int64_t outputs = 0, inputs = 0;
  QuadBlock blocks[kCudaDotBlocks];      // data 4-byte aligned; those without channels do not count
  const std::int32_t* active = nullptr;  // ascending quads; null: all
  std::int64_t active_count = 0;
  std::int64_t tokens = 0;
  std::int32_t* out = nullptr;
  std::int64_t out_stride = 0;
};

// `stream` is a cudaStream_t. Returns when the work is queued.
void int8_dot_cuda(const CudaDot& job, void* stream);

// Pointers of the job are of device memory too. s, f, mean and unit are not looked at: the caller
// has made sure of their ranges.
void reconstruct_cuda(const Reconstruction& job, void* stream);

}  // namespace kv
