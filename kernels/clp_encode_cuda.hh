#pragma once
// An encoder's arithmetic of the codec `clp` (kv(5)) on an NVIDIA GPU: a tile's rows to quantised
// coefficients, by the operations of the CPU's 8-bit path in their order, each rounded once, so
// that the coefficients are the same. The entropy coder behind it is rans_encode_cuda().

#include "kv/kernels/cuda_namespace.hh"
#include "kv/kernels/int8_dot.hh"

#include <cstdint>
#include <functional>
#include <span>

namespace KV_CUDA_NAMESPACE {

// All pointers are of the host's memory. Sizes that do not fit are refused; what weights hold is
// the caller's.
struct CudaClpAnalysis {
  std::span<const std::uint16_t> rows;  // bf16 [used tokens][channels]; those behind count as 0
  std::int64_t channels = 0;            // a multiple of 4
  std::int64_t tokens = 0;              // a multiple of 64, not less than the used ones
  std::span<const float> mean, unit, inverse_width;  // [channels]
  const Int8Weights* predictor = nullptr;            // null: nothing is predicted
  std::span<const QuadBlock> context;                // its inputs, at most 5 blocks
  const Int8Weights* high = nullptr;                 // [channels][channels]
  const Int8Weights* mixed = nullptr;                // [channels][2 channels]: low, high
  std::span<const float> row_scale;                  // [channels]
  std::int64_t coded = 0;                            // coefficients that are wanted, whole quads

  // Given the bits of each token's largest coefficient (from 0x7F800000 on something is not
  // finite), says what its coefficients are multiplied with, 0 for a token that is coded otherwise,
  // and the row of `thresholds` that it goes by.
  std::function<void(std::span<const std::int32_t> largest, std::span<float> scale,
                     std::span<std::int32_t> row)>
      choose;
  std::span<const float> thresholds;  // [coded][rows]: below it a value becomes 0
  std::int64_t threshold_rows = 0;

  std::span<std::uint8_t> quads;  // the result: [coded / 4][tokens][4], -127 to 127, plus 128
};

// Throws std::invalid_argument, std::runtime_error without a device or when it fails.
void clp_quantise_cuda(const CudaClpAnalysis& job);

}  // namespace KV_CUDA_NAMESPACE
