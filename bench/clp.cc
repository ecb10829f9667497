// clp_bench FILE.kv [ROUNDS [PROFILE.kvp]]: speed of the codec `clp` on one core, warm, in GB/s of
// bf16 values, for each instruction set, stage by stage, beside the limit: 8-bit products on
// registers alone, over the multiply-adds that a value takes. Then the lossless codec and zstd -3.
// Best of the rounds: others use the machine too.
#include "int8_peak.hh"
#include "kv/base/error.hh"
#include "kv/codec/clp_member.hh"
#include "kv/codec/codec.hh"
#include "kv/codec/profiles.hh"
#include "kv/kernels/epilogue.hh"
#include "kv/kernels/rans.hh"

#include <hwy/targets.h>
#include <zstd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>

namespace {

using Layers = std::vector<std::vector<kv::OwnedTile>>;

struct Sample {
  kv::Meta meta;
  kv::Importance importance;
  Layers raw;
  double values = 0;
};

Sample read(const std::string& path) {
  Sample sample;
  kv::Reader reader(kv::Input::open(path));
  sample.meta = reader.next_member().value();
  sample.importance = reader.importance();
  kv::Bytes scratch;
  while (const auto tile = reader.next_tile()) {
    const kv::TensorView view = kv::decoded_tile(sample.meta, *tile, path, scratch);
    if (sample.raw.empty() || sample.raw.back().front().header.layer != tile->header.layer) {
      sample.raw.emplace_back();
    }
    sample.raw.back().push_back({tile->header, kv::Bytes(view.bytes.begin(), view.bytes.end()), 0});
    sample.values += static_cast<double>(view.shape[0] * view.row_values());
  }
  if (sample.meta.dtype != kv::DType::kBF16) kv::fail_usage("{}: not bf16", path);
  return sample;
}

struct InstructionSet {
  kv::DotTarget dot;
  kv::EpilogueTarget epilogue;
  kv::RansTarget rans;
  bool wide;  // vectors of 512 bits elsewhere too
};

constexpr InstructionSet kSets[] = {
    {kv::DotTarget::kAmx, kv::EpilogueTarget::kAvx512, kv::RansTarget::kAvx512, true},
    {kv::DotTarget::kAvx512Vnni, kv::EpilogueTarget::kAvx512, kv::RansTarget::kAvx512, true},
    {kv::DotTarget::kAvxVnni, kv::EpilogueTarget::kAvx2, kv::RansTarget::kAvx2, false},
    {kv::DotTarget::kAvx2, kv::EpilogueTarget::kAvx2, kv::RansTarget::kAvx2, false},
};

bool choose(const InstructionSet& set) {
  const auto dots = kv::dot_targets();
  const auto epilogues = kv::epilogue_targets();
  if (std::find(dots.begin(), dots.end(), set.dot) == dots.end() ||
      std::find(epilogues.begin(), epilogues.end(), set.epilogue) == epilogues.end() ||
      !kv::rans_has_target(set.rans)) {
    return false;
  }
  kv::set_dot_target(set.dot);
  kv::set_epilogue_target(set.epilogue);
  kv::set_rans_target(set.rans);
  hwy::DisableTargets(0);
  if (!set.wide) hwy::DisableTargets(HWY_AVX3 | HWY_AVX3_DL);
  return true;
}

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

// Of all layers; the result's memory goes back, as a reader's does.
double seconds_of(const Layers& tiles, const kv::ClpOptions& options, kv::ClpMember& member,
                  bool encode, int rounds) {
  double best = 1e9;
  for (int round = 0; round <= rounds; ++round) {
    double spent = 0;
    for (const std::vector<kv::OwnedTile>& layer : tiles) {
      std::vector<kv::OwnedTile> copy = layer;
      const double start = now();
      copy = encode ? member.encode(std::move(copy), options) : member.decode(std::move(copy));
      spent += now() - start;
      for (kv::OwnedTile& tile : copy) member.recycle(std::move(tile.data));
    }
    if (round > 0) best = std::min(best, spent);  // the first warms up
  }
  return best;
}

void report(const Sample& sample, const kv::ClpOptions& options, int rounds) {
  kv::ClpMember member(sample.meta, "bench", 1);
  member.set_importance(sample.importance);
  Layers coded;
  for (const auto& layer : sample.raw) coded.push_back(member.encode(layer, options));
  double bytes = 0;
  for (const auto& layer : coded) {
    for (const kv::OwnedTile& tile : layer) bytes += static_cast<double>(tile.data.size());
  }
  Parts parts(sample, *options.profile, coded);
  const double gb = 2e-9 * sample.values;
  const double macs = parts.macs() / sample.values;
  std::printf("%.1f M values, %.3f bits a value, %.0f multiply-adds a value\n\n",
              1e-6 * sample.values, 8 * bytes / sample.values, macs);
  std::printf(
      "| products | peak, G MAC/s | limit, GB/s | decode, GB/s | of the limit | symbols | products "
      "| "
      "epilogue | rest | encode, GB/s | of decode |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const InstructionSet& set : kSets) {
    if (!choose(set)) continue;
    const double peak = int8_peak(set.dot, rounds);
    const double limit = 2 * peak / macs;
    const double decode = seconds_of(coded, options, member, false, rounds);
    const double symbols = best_seconds(rounds, [&] { parts.symbols(); });
    const double products = best_seconds(rounds, [&] { parts.products(); });
    const double epilogue = best_seconds(rounds, [&] { parts.epilogue(); });
    const double encode = seconds_of(sample.raw, options, member, true, rounds);
    const double rest = decode - symbols - products - epilogue;
    const auto each = [&](double seconds) { return 1e9 * seconds / sample.values; };
    std::printf(
        "| %s | %.0f | %.2f | %.2f | %.0f %% | %.2f | %.2f | %.2f | %.2f | %.2f | %.0f %% |\n",
        kv::dot_target_name(set.dot), peak, limit, gb / decode, 100 * gb / decode / limit,
        each(symbols), each(products), each(epilogue), each(rest), gb / encode,
        100 * decode / encode);
    std::fflush(stdout);
  }
  choose(kSets[0]) || choose(kSets[1]) || choose(kSets[2]) || choose(kSets[3]);
  std::printf("\nStages in ns a value.\n\n");
}

void report_lossless(const Sample& sample, int rounds) {
  const kv::Codec& planes = kv::codec_by_name("planes");
  std::vector<kv::OwnedTile> coded, packed;
  double raw = 0, planes_bytes = 0, zstd_bytes = 0;
  kv::Bytes room;
  for (const auto& layer : sample.raw) {
    for (const kv::OwnedTile& tile : layer) {
      kv::TensorView view = sample.meta.shape_of(tile.header);
      view.bytes = tile.data;
      coded.push_back({tile.header, planes.encode(tile.header, view), 0});
      kv::Bytes bytes(ZSTD_compressBound(tile.data.size()));
      bytes.resize(
          ZSTD_compress(bytes.data(), bytes.size(), tile.data.data(), tile.data.size(), 3));
      packed.push_back({tile.header, std::move(bytes), 0});
      raw += static_cast<double>(tile.data.size());
      planes_bytes += static_cast<double>(coded.back().data.size());
      zstd_bytes += static_cast<double>(packed.back().data.size());
      room.resize(std::max(room.size(), tile.data.size()));
    }
  }
  const auto size_of = [&](const kv::OwnedTile& tile) {
    const kv::TensorView view = sample.meta.shape_of(tile.header);
    return static_cast<std::size_t>(view.shape[0]) * view.row_bytes();
  };
  const double by_planes = best_seconds(rounds, [&] {
    for (const kv::OwnedTile& tile : coded) {
      planes.decode(tile.header, tile.data, "bench", std::span(room).first(size_of(tile)));
    }
  });
  const double by_zstd = best_seconds(rounds, [&] {
    for (const kv::OwnedTile& tile : packed) {
      ZSTD_decompress(room.data(), room.size(), tile.data.data(), tile.data.size());
    }
  });
  const double copy = best_seconds(rounds, [&] {
    for (const auto& layer : sample.raw) {
      for (const kv::OwnedTile& tile : layer) {
        std::memcpy(room.data(), tile.data.data(), tile.data.size());
      }
    }
  });
  std::printf("| one core | ratio | decode, GB/s |\n|---|---|---|\n");
  std::printf("| lossless (planes) | %.3f | %.2f |\n", raw / planes_bytes, 1e-9 * raw / by_planes);
  std::printf("| zstd -3 | %.3f | %.2f |\n", raw / zstd_bytes, 1e-9 * raw / by_zstd);
  std::printf("| memory copy | 1 | %.2f |\n", 1e-9 * raw / copy);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: clp_bench FILE.kv [ROUNDS [PROFILE.kvp]]\n");
    return 2;
  }
  try {
    const Sample sample = read(argv[1]);
    const int rounds = argc > 2 ? std::max(2, std::atoi(argv[2])) : 7;
    const kv::ClpOptions options{.profile = argc > 3 ? kv::Profile::open(argv[3])
                                                     : kv::find_profile(sample.meta.model, 2)};
    if (!options.profile) {
      std::fprintf(stderr, "SKIPPED: no profile of this model for level 2; see kvcalibrate\n");
      return 125;
    }
    report(sample, options, rounds);
    report_lossless(sample, rounds);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "clp_bench: %s\n", error.what());
    return 1;
  }
}
