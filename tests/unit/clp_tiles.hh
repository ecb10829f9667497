#pragma once
// Random tiles of the small profile, for what has a twin in CUDA.

#include "clp_samples.hh"
#include "kv/codec/clp_tensor.hh"

#include <bit>
#include <map>
#include <random>
#include <utility>
#include <vector>

namespace kv::test {

// What a tile's tensors leave for those behind, by layer and kind.
using Contexts = std::map<std::pair<std::uint32_t, Kind>, kv::TileContext>;

inline std::vector<const kv::TileContext*> contexts_of(const kv::TensorProfile& tensor,
                                                       const Contexts& contexts) {
  std::vector<const kv::TileContext*> context;
  for (const kv::ContextSource& source : tensor.context) {
    context.push_back(&contexts.at({tensor.layer - source.layers_back, source.kind}));
  }
  return context;
}

inline std::vector<kv::QuadBlock> blocks_of(const std::vector<const kv::TileContext*>& contexts) {
  std::vector<kv::QuadBlock> blocks;
  for (const kv::TileContext* of : contexts) {
    blocks.push_back({of->values.quad(0), of->values.channels(), of->values.stride_tokens()});
  }
  return blocks;
}

inline std::optional<kv::Int8Weights> predictor_of(const kv::TensorProfile& profile) {
  if (profile.inputs == 0) return std::nullopt;
  return kv::Int8Weights(profile.predictor, profile.channels, profile.inputs);
}

// bf16 of a normal distribution; every token has a step of its own, the first is exact.
struct RandomTile {
  std::vector<std::uint16_t> rows;
  kv::TileSteps steps;
  std::int64_t tokens;

  RandomTile(std::int64_t count, int base, std::mt19937& random) : tokens(count) {
    std::normal_distribution<float> normal(0.0f, 8.0f);
    rows.resize(static_cast<std::size_t>(tokens * kChannels));
    for (std::uint16_t& value : rows) {
      value = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(normal(random)) >> 16);
    }
    steps.base = base;
    for (std::int64_t t = 0; t < tokens; ++t) {
      steps.tokens.push_back(static_cast<std::int8_t>(static_cast<int>(random() % 5) - 3));
    }
    steps.exact.push_back(0);
  }

  kv::TensorView view() const {
    return {.dtype = kv::DType::kBF16,
            .shape = {tokens, kHeads, kDim},
            .bytes = std::as_bytes(std::span(rows))};
  }
};

}  // namespace kv::test
