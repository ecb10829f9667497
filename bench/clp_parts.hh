#pragma once
// The stages of a decoder of the codec `clp`, each by itself; for bench/clp.cc.

#include "kv/codec/clp_member.hh"
#include "kv/kernels/epilogue.hh"

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

using Layers = std::vector<std::vector<kv::OwnedTile>>;

struct Sample {
  kv::Meta meta;
  kv::Importance importance;
  Layers raw;
  double values = 0;
};

// The parts of a decoder by themselves, on the tiles of a file: the same calls that it makes.
class Parts {
 public:
  Parts(const Sample& sample, const kv::Profile& profile, const Layers& coded) {
    std::map<std::pair<std::uint64_t, std::pair<std::uint32_t, kv::format::Kind>>,
             std::vector<std::int8_t>>
        steps;
    for (const auto& [layer, kind] : kv::order_of(sample.meta)) {
      const kv::TensorProfile& tensor = *profile.find(layer, kind);
      Weights& weights = weights_.emplace_back();
      weights.tensor = &tensor;
      weights.basis =
          std::make_unique<kv::Int8Weights>(tensor.basis, tensor.channels, tensor.channels);
      if (tensor.inputs > 0) {
        weights.predictor =
            std::make_unique<kv::Int8Weights>(tensor.predictor, tensor.channels, tensor.inputs);
      }
      for (const std::vector<kv::OwnedTile>& tiles : coded) {
        for (const kv::OwnedTile& tile : tiles) {
          if (tile.header.layer != layer || tile.header.kind != kind) continue;
          Piece& piece = pieces_.emplace_back();
          piece.weights = weights_.size() - 1;
          piece.tokens = tile.header.token_count;
          const std::vector<std::int8_t>* near = nullptr;
          if (!tensor.context.empty()) {
            const kv::ContextSource& last = tensor.context.back();
            near = &steps[{tile.header.token_begin, {layer - last.layers_back, last.kind}}];
          }
          kv::read_tile_code(piece.tokens, static_cast<std::size_t>(2 * tensor.channels), near,
                             tile.data, place_, piece.code);
          steps[{tile.header.token_begin, {layer, kind}}] = piece.code.steps.tokens;
        }
      }
    }
    symbols();
    for (const Piece& piece : pieces_) {
      const kv::TensorProfile& tensor = *weights_[piece.weights].tensor;
      macs_ += static_cast<double>(piece.tokens * tensor.channels) *
               static_cast<double>(tensor.inputs + (piece.code.plan->used() + 3) / 4 * 4);
    }
  }

  double macs() const { return macs_; }

  void symbols() {
    for (std::size_t i = 0; i < pieces_.size(); i += 4) {
      std::vector<kv::CoefficientJob> jobs;
      for (std::size_t j = i; j < std::min(i + 4, pieces_.size()); ++j) {
        jobs.push_back({weights_[pieces_[j].weights].tensor, &pieces_[j].code, &place_});
      }
      kv::decode_coefficients(jobs);
    }
  }

  void products() {
    each_block([&](const Piece& piece, const Weights& weights, std::int64_t first,
                   std::int64_t tokens) {
      if (weights.predictor) {
        context_room_.shape(weights.tensor->inputs, kBlock);
        const kv::QuadBlock block{context_room_.quad(0), weights.tensor->inputs,
                                  context_room_.stride_tokens()};
        kv::int8_dot(*weights.predictor, {&block, 1}, tokens, predicted_.take(kMost), kBlock);
      }
      std::vector<std::int32_t> active(static_cast<std::size_t>(piece.code.plan->used() + 3) / 4);
      std::iota(active.begin(), active.end(), 0);
      const kv::Quads& quads = piece.code.coefficients;
      const kv::QuadBlock block{quads.quad(0) + 4 * first, quads.channels(), quads.stride_tokens()};
      kv::int8_dot_active(*weights.basis, {&block, 1}, active, tokens, sums_.take(kMost), kBlock);
    });
  }

  void epilogue() {
    const std::vector<std::uint8_t> m(kBlock, 140);
    const std::vector<std::int8_t> s(kBlock, -7);
    each_block([&](const Piece&, const Weights& weights, std::int64_t, std::int64_t tokens) {
      const kv::TensorProfile& tensor = *weights.tensor;
      rows_.resize(static_cast<std::size_t>(2 * tensor.channels * kBlock));
      kv::Reconstruction job;
      job.outputs = tensor.channels, job.tokens = tokens;
      job.r = sums_.take(kMost), job.p = weights.predictor ? predicted_.take(kMost) : nullptr;
      job.r_stride = job.p_stride = job.n_stride = kBlock;
      job.g = tensor.gain.data(), job.m = m.data(), job.s = s.data(), job.f = tensor.shift.data();
      job.mean = tensor.mean.data(), job.unit = tensor.unit.data();
      values_.shape(tensor.channels, kBlock);
      job.n = values_.quad(0);
      job.x = rows_.data(), job.x_stride = tensor.channels;
      kv::reconstruct(job);
    });
  }

 private:
  static constexpr std::int64_t kBlock = 128;
  static constexpr std::size_t kMost = std::size_t{kBlock} << 12;

  struct Weights {
    const kv::TensorProfile* tensor = nullptr;
    std::unique_ptr<kv::Int8Weights> predictor, basis;
  };
  struct Piece {
    std::size_t weights = 0;
    std::int64_t tokens = 0;
    kv::TileCode code;
  };

  template <typename F>
  void each_block(F&& use) {
    for (const Piece& piece : pieces_) {
      for (std::int64_t first = 0; first < piece.tokens; first += kBlock) {
        use(piece, weights_[piece.weights], first,
            kv::stride_of(std::min(kBlock, piece.tokens - first)));
      }
    }
  }

  std::string place_ = "bench";
  std::vector<Weights> weights_;
  std::vector<Piece> pieces_;
  double macs_ = 0;
  kv::Quads context_room_, values_;
  kv::Room<std::int32_t> predicted_, sums_;
  std::vector<std::byte> rows_;
};
