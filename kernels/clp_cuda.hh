#pragma once
// What the CUDA twins of the clp decoder and encoder share. Private to the folder.

#include "kv/kernels/cuda_launch.hh"
#include "kv/kernels/int8_dot_cuda.hh"

#include <memory>
#include <span>
#include <stdexcept>
#include <vector>

namespace KV_CUDA_NAMESPACE::clp_detail {

inline constexpr unsigned kThreads = 256;

inline unsigned blocks_for(std::size_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

inline void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

// The first `outputs` of the weights times blocks of the device's memory, to [outputs][tokens]
// there. `active`: see CudaDot.
struct ActiveQuads {
  const std::int32_t* list = nullptr;
  std::int64_t count = 0;
};
inline void multiply(const Int8Weights& weights, std::int64_t outputs, std::int64_t tokens,
                     std::span<const QuadBlock> blocks, std::int32_t* out,
                     ActiveQuads active = {}) {
  const std::int64_t size = 1024 * weights.output_tiles() * weights.input_tiles();
  const DeviceArray<std::int8_t> tiles(std::span(weights.tiles(), static_cast<std::size_t>(size)));
  CudaDot dot;
  dot.tiles = tiles.data();
  dot.outputs = outputs, dot.inputs = weights.inputs();
  for (std::size_t i = 0; i < blocks.size(); ++i) dot.blocks[i] = blocks[i];
  dot.active = active.list, dot.active_count = active.count;
  dot.tokens = dot.out_stride = tokens;
  dot.out = out;
  int8_dot_on_device(dot);
}

// What the predictor makes of blocks of the host's memory.
inline void predict(const Int8Weights& predictor, std::span<const QuadBlock> context,
                    std::int64_t tokens, std::int32_t* out) {
  require(context.size() <= kCudaDotBlocks, "clp on CUDA: too many blocks");
  std::vector<std::unique_ptr<DeviceArray<std::uint8_t>>> data;
  std::vector<QuadBlock> blocks;
  for (const QuadBlock& block : context) {
    require(block.channels > 0 && block.channels % 4 == 0 && block.stride_tokens >= tokens,
            "clp on CUDA: a context has too few tokens or channels");
    const std::int64_t bytes = 4 * ((block.channels / 4 - 1) * block.stride_tokens + tokens);
    data.push_back(std::make_unique<DeviceArray<std::uint8_t>>(
        std::span(block.data, static_cast<std::size_t>(bytes))));
    blocks.push_back({data.back()->data(), block.channels, block.stride_tokens});
  }
  multiply(predictor, predictor.outputs(), tokens, blocks, out);
}

}  // namespace KV_CUDA_NAMESPACE::clp_detail
