#include "bf16_attention.hh"

#include "bf16_attention_targets.hh"
#include "cpu_features.hh"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>
#include <vector>

namespace kv {
namespace {

double value_of(std::uint16_t bits) {
  return static_cast<double>(std::bit_cast<float>(std::uint32_t{bits} << 16));
}

bool visible(const Bf16Attention& block, std::int64_t row, std::int64_t key) {
  if (block.key_positions == nullptr) return true;
  const std::int64_t distance = std::int64_t{block.positions[row]} - block.key_positions[key];
  return distance >= 0 && (block.window == 0 || distance < block.window);
}

double score_of(const Bf16Attention& block, const std::uint16_t* query, std::int64_t key) {
  const std::uint16_t* keys = block.keys + key / 64 * 64 * block.k_dim + key % 64 * 2;
  double score = 0;
  for (std::int64_t i = 0; i < block.k_dim; ++i) {
    score += value_of(query[i]) * value_of(keys[i / 2 * 128 + i % 2]);
  }
  return score;
}

}  // namespace

bool bf16_attention_fits(std::int64_t k_dim, std::int64_t v_dim) {
#if defined(__x86_64__)
  static const bool here = cpu_has_amx_bf16();
  return here && k_dim > 0 && k_dim % 32 == 0 && v_dim > 0 && v_dim % 32 == 0;
#else
  return k_dim < 0 && v_dim < 0;
#endif
}

void bf16_attention(const Bf16Attention& block) {
  if (!bf16_attention_fits(block.k_dim, block.v_dim) || block.tiles < 0 ||
      block.tiles > Bf16Attention::kMostTiles || block.rows < 0 || block.group < 1) {
    throw std::invalid_argument("bf16_attention: sizes do not fit");
  }
#if defined(__x86_64__)
  attention_amx(block);
#endif
}

void bf16_attention_scalar(const Bf16Attention& block) {
  std::vector<double> scores(static_cast<std::size_t>(block.tiles * Bf16Attention::kTileKeys));
  for (std::int64_t i = 0; i < block.rows * block.group; ++i) {
    double max = static_cast<double>(block.max[i]);
    for (std::size_t key = 0; key < scores.size(); ++key) {
      const auto at = static_cast<std::int64_t>(key);
      scores[key] = visible(block, i / block.group, at)
                        ? score_of(block, block.queries + i * block.k_dim, at)
                        : -INFINITY;
      max = std::max(max, scores[key]);
    }
    const auto scale = static_cast<double>(block.scale);
    const double factor = std::exp(scale * (static_cast<double>(block.max[i]) - max));
    double sum = static_cast<double>(block.sum[i]) * factor;
    std::vector<double> output(static_cast<std::size_t>(block.v_dim));
    for (std::size_t key = 0; key < scores.size(); ++key) {
      const double probability = std::exp(scale * (scores[key] - max));
      const std::uint16_t* values = block.values + key / 2 * 2 * block.v_dim + key % 2;
      for (std::size_t c = 0; c < output.size(); ++c) {
        output[c] += probability * value_of(values[2 * c]);
      }
      sum += probability;
    }
    for (std::size_t c = 0; c < output.size(); ++c) {
      float& to = block.output[i * block.v_dim + static_cast<std::int64_t>(c)];
      to = static_cast<float>(static_cast<double>(to) * factor + output[c]);
    }
    block.max[i] = static_cast<float>(max);
    block.sum[i] = static_cast<float>(sum);
  }
}

}  // namespace kv
