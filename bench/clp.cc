// clp_bench FILE.kv [ROUNDS [PROFILE.kvp]]: speed of the codec `clp` on one core, warm, in GB/s of
// bf16 values, for each instruction set, stage by stage, beside the limit: 8-bit products on
// registers alone, over the multiply-adds that a value takes. Then the lossless codec and zstd -3.
// Best of the rounds: others use the machine too.
#include "clp_parts.hh"
#include "int8_peak.hh"
#include "kv/base/error.hh"
#include "kv/codec/codec.hh"
#include "kv/codec/ecsq.hh"
#include "kv/codec/profiles.hh"
#include "kv/kernels/epilogue.hh"
#include "kv/kernels/rans.hh"
#include "kv/kernels/vector_target.hh"

#include <zstd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

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
  kv::VectorTarget vectors;
};

constexpr InstructionSet kSets[] = {
    {kv::DotTarget::kAmx, kv::EpilogueTarget::kAvx512, kv::RansTarget::kAvx512,
     kv::VectorTarget::kAvx512},
    {kv::DotTarget::kAvx512Vnni, kv::EpilogueTarget::kAvx512, kv::RansTarget::kAvx512,
     kv::VectorTarget::kAvx512},
    {kv::DotTarget::kAvxVnni, kv::EpilogueTarget::kAvx2, kv::RansTarget::kAvx2,
     kv::VectorTarget::kAvx2},
    {kv::DotTarget::kAvx2, kv::EpilogueTarget::kAvx2, kv::RansTarget::kAvx2,
     kv::VectorTarget::kAvx2},
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
  kv::set_vector_target(set.vectors);
  return true;
}

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

// The family without prediction across layers, whose tiles decode alone; with all its qualities.
void report_family(const Sample& sample, int rounds) {
  for (const int refinements : {0, 2}) {
    const kv::EcsqCodec codec(sample.meta, {.level = 2, .refinements = refinements},
                              sample.importance);
    struct Coded {
      const kv::OwnedTile* raw;
      std::vector<kv::Coded> qualities;
      std::vector<kv::ByteView> views;
    };
    std::vector<Coded> tiles;
    double raw = 0, bytes = 0;
    std::size_t most = 0;
    for (const auto& layer : sample.raw) {
      for (const kv::OwnedTile& tile : layer) {
        kv::TensorView view = sample.meta.shape_of(tile.header);
        view.bytes = tile.data;
        Coded& coded = tiles.emplace_back();
        coded.raw = &tile;
        coded.qualities = codec.encode_qualities(sample.meta, tile.header, view);
        for (const kv::Coded& quality : coded.qualities) {
          coded.views.push_back(quality.data);
          bytes += static_cast<double>(quality.data.size());
        }
        raw += static_cast<double>(tile.data.size());
        most = std::max(most, tile.data.size());
      }
    }
    kv::Bytes room(most);
    const double seconds = best_seconds(rounds, [&] {
      for (const Coded& coded : tiles) {
        kv::EcsqCodec::decode_qualities(sample.meta, coded.raw->header, coded.views, "bench",
                                        std::span(room).first(coded.raw->data.size()));
      }
    });
    std::printf("| ecsq -l 2%s | %.3f | %.2f |\n", refinements > 0 ? " --progressive" : "",
                raw / bytes, 1e-9 * raw / seconds);
    std::fflush(stdout);
  }
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
    report_family(sample, rounds);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "clp_bench: %s\n", error.what());
    return 1;
  }
}
