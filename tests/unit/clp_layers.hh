#pragma once
// Members of random rows for tests of the codec `clp`, on the way there and back.

#include "clp_samples.hh"
#include "kv/codec/clp_member.hh"
#include "kv/kernels/epilogue.hh"
#include "kv/kernels/rans.hh"
#include "kv/kernels/vector_target.hh"

#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

namespace kv::test {

inline kv::Meta make_meta(std::int64_t tokens) {
  kv::Meta meta;
  for (std::uint32_t layer = 0; layer < 2; ++layer) {
    meta.layers.push_back({layer, {.kv_heads = kHeads, .k_dim = kDim, .v_dim = kDim}});
  }
  meta.dtype = kv::DType::kF32;
  meta.token_count = tokens;
  return meta;
}

inline std::vector<float> random_rows(std::int64_t tokens, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 8.0f);
  std::vector<float> rows(static_cast<std::size_t>(tokens * kChannels));
  for (float& value : rows) value = normal(random);
  return rows;
}

struct Layer {
  std::vector<kv::OwnedTile> tiles;  // K then V, in cuts
};

// Both layers of a member as raw tiles, cut after each `step` tokens.
inline std::vector<Layer> raw_layers(std::int64_t tokens, std::int64_t step) {
  std::vector<Layer> layers(2);
  for (std::uint32_t layer = 0; layer < 2; ++layer) {
    for (const Kind kind : {Kind::kK, Kind::kV}) {
      const std::vector<float> rows =
          random_rows(tokens, 2 * layer + static_cast<std::uint32_t>(kind == Kind::kV));
      const kv::ByteView bytes = std::as_bytes(std::span(rows));
      for (std::int64_t first = 0; first < tokens; first += step) {
        const std::int64_t count = std::min(step, tokens - first);
        kv::OwnedTile& tile = layers[layer].tiles.emplace_back();
        tile.header = {.kind = kind,
                       .dtype = kv::DType::kF32,
                       .layer = layer,
                       .token_begin = static_cast<std::uint64_t>(first),
                       .token_count = static_cast<std::uint32_t>(count)};
        const kv::ByteView part = bytes.subspan(static_cast<std::size_t>(first * kChannels) * 4,
                                                static_cast<std::size_t>(count * kChannels) * 4);
        tile.data.assign(part.begin(), part.end());
      }
    }
  }
  return layers;
}

inline std::vector<Layer> encoded(const std::vector<Layer>& raw, std::int64_t tokens,
                                  const kv::ClpOptions& options, int threads) {
  kv::ClpMember member(make_meta(tokens), "test", threads);
  std::vector<Layer> out;
  for (const Layer& layer : raw) out.push_back({member.encode(layer.tiles, options)});
  return out;
}

// The decoder looks profiles up by their hash: it is told of this one by encoding nothing with it.
inline std::vector<Layer> decoded(const std::vector<Layer>& coded, std::int64_t tokens,
                                  const kv::ClpOptions& options, int threads) {
  kv::ClpMember member(make_meta(tokens), "test", threads);
  member.encode({}, options);
  std::vector<Layer> out;
  for (const Layer& layer : coded) out.push_back({member.decode(layer.tiles)});
  return out;
}

inline bool same_data(const std::vector<Layer>& a, const std::vector<Layer>& b) {
  for (std::size_t l = 0; l < a.size(); ++l) {
    if (a[l].tiles.size() != b[l].tiles.size()) return false;
    for (std::size_t i = 0; i < a[l].tiles.size(); ++i) {
      if (a[l].tiles[i].data != b[l].tiles[i].data) return false;
    }
  }
  return true;
}

inline double mean_square_error(const std::vector<Layer>& a, const std::vector<Layer>& b) {
  double sum = 0, count = 0;
  for (std::size_t l = 0; l < a.size(); ++l) {
    for (std::size_t i = 0; i < a[l].tiles.size(); ++i) {
      const auto* x = reinterpret_cast<const float*>(a[l].tiles[i].data.data());
      const auto* y = reinterpret_cast<const float*>(b[l].tiles[i].data.data());
      for (std::size_t v = 0; v < a[l].tiles[i].data.size() / 4; ++v, ++count) {
        sum += (double(x[v]) - double(y[v])) * (double(x[v]) - double(y[v]));
      }
    }
  }
  return sum / count;
}

inline double worst_error(const std::vector<Layer>& a, const std::vector<Layer>& b) {
  double worst = 0;
  for (std::size_t l = 0; l < a.size(); ++l) {
    for (std::size_t i = 0; i < a[l].tiles.size(); ++i) {
      const auto* x = reinterpret_cast<const float*>(a[l].tiles[i].data.data());
      const auto* y = reinterpret_cast<const float*>(b[l].tiles[i].data.data());
      for (std::size_t v = 0; v < a[l].tiles[i].data.size() / 4; ++v) {
        if (std::isfinite(x[v])) worst = std::max(worst, std::fabs(double(x[v]) - double(y[v])));
      }
    }
  }
  return worst;
}

inline double bytes_of(const std::vector<Layer>& layers) {
  double bytes = 0;
  for (const Layer& layer : layers) {
    for (const kv::OwnedTile& tile : layer.tiles) bytes += static_cast<double>(tile.data.size());
  }
  return bytes;
}

// With each kernel in turn, the others at their best; then with all scalar.
template <typename F>
void each_target(F&& use) {
  const auto best = [] {
    kv::set_dot_target(kv::dot_targets().front());
    kv::set_epilogue_target(kv::epilogue_targets().front());
    kv::set_rans_target(kv::rans_best_target());
    kv::set_vector_target(kv::vector_targets().front());
  };
  for (const kv::DotTarget target : kv::dot_targets()) {
    CAPTURE(kv::dot_target_name(target));
    kv::set_dot_target(target);
    use();
  }
  best();
  for (const kv::EpilogueTarget target : kv::epilogue_targets()) {
    CAPTURE(kv::epilogue_target_name(target));
    kv::set_epilogue_target(target);
    use();
  }
  best();
  for (const kv::RansTarget target : {kv::RansTarget::kAvx512, kv::RansTarget::kAvx2}) {
    if (!kv::rans_has_target(target)) continue;
    CAPTURE(kv::rans_target_name(target));
    kv::set_rans_target(target);
    use();
  }
  best();
  for (const kv::VectorTarget target : kv::vector_targets()) {
    CAPTURE(kv::vector_target_name(target));
    kv::set_vector_target(target);
    use();
  }
  kv::set_dot_target(kv::DotTarget::kScalar);
  kv::set_epilogue_target(kv::EpilogueTarget::kScalar);
  kv::set_rans_target(kv::RansTarget::kScalar);
  kv::set_vector_target(kv::VectorTarget::kBaseline);
  use();
  best();
}

}  // namespace kv::test
