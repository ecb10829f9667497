#pragma once
// A tile of the codec `clp` (kv(5)) decoded on an NVIDIA GPU, from the stream to the rows, with
// nothing but the tile and the results passing over the bus: the bits of the CPU.

#include "kv/kernels/cuda_namespace.hh"
#include "kv/kernels/epilogue.hh"
#include "kv/kernels/int8_dot.hh"
#include "kv/kernels/rans.hh"

#include <cstddef>
#include <cstdint>
#include <span>

namespace KV_CUDA_NAMESPACE {

// A coefficient has symbols in its first groups of 32 tokens: a step a group, from first_step on.
struct ClpRow {
  std::uint32_t first_step = 0, groups = 0;
};
// Steps that have low bits; `bits` words a step.
struct ClpLowBits {
  std::uint32_t first_step = 0, steps = 0, first_word = 0, bits = 0;
};

// All pointers are of the host's memory. Ranges are as in rans.hh, int8_dot.hh and epilogue.hh, and
// checked but for what these checks say they leave to the caller.
struct CudaClpTile {
  const RansTables* tables = nullptr;
  std::span<const std::byte> stream;
  std::span<const RansStep> steps;
  std::span<const ClpRow> rows;  // as many as outputs
  std::span<const ClpLowBits> low_bits;
  std::span<const std::uint32_t> planes;
  std::span<const std::int8_t> escapes;    // in the order of the symbols
  std::span<const std::uint16_t> order;    // tokens of the groups, all different and below tokens
  const Int8Weights* predictor = nullptr;  // null: nothing is predicted
  std::span<const QuadBlock> context;      // its inputs, at most 5 blocks
  const Int8Weights* basis = nullptr;
  // Sizes, factors and results; r and p and their strides are made here.
  Reconstruction last;
};

// Tokens without symbols get what zeros give. Returns whether the stream is intact and has as many
// escapes as there are. Throws std::invalid_argument, std::runtime_error without a device or when
// it fails.
[[nodiscard]] bool clp_decode_cuda(const CudaClpTile& tile);

}  // namespace KV_CUDA_NAMESPACE
