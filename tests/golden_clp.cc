// Golden streams of the codec `clp` and the profile that they need.
//
// The encoder's arithmetic is in f32; the scalar loops, which are chosen here, do it alike on all
// machines. No calibration made the profile: it has one of each thing that a decoder must know.
#include "golden_files.hh"
#include "kv/codec/profiles.hh"
#include "kv/codec/transcode.hh"
#include "kv/kernels/int8_dot.hh"
#include "kv/kernels/vector_target.hh"
#include "unit/container_samples.hh"
#include "unit/lossy_samples.hh"

#include <limits>
#include <random>

namespace kv::golden {
namespace {

using format::Kind;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Layer 4 has no cache; 3 and 5 have one tensor for keys and values.
Meta meta(std::int64_t tokens, DType dtype, const std::vector<std::uint32_t>& layers) {
  Meta meta = samples::lossy_meta(tokens, dtype);
  meta.model.fingerprint = "c19c19c19c19c19c19c19c19c19c19c1";
  meta.layers.clear();
  for (const std::uint32_t layer : layers) {
    LayerMeta& at = meta.layers.emplace_back(LayerMeta{.index = layer});
    at.geometry = {.kv_heads = 2, .k_dim = 8, .v_dim = 6};
    if (layer == 2) at.geometry = {.kv_heads = 1, .k_dim = 20, .v_dim = 4};
    if (layer >= 3) at.latent_dim = 24;
  }
  return meta;
}

const std::vector<std::uint32_t> kAllLayers = {0, 1, 2, 3, 5};

std::vector<ContextSource> context_of(std::uint32_t layer, Kind kind) {
  constexpr Kind k = Kind::kK, v = Kind::kV;
  switch (layer) {
    case 0:
      return kind == v ? std::vector<ContextSource>{} : std::vector<ContextSource>{{0, v}};
    case 1:
      return kind == v ? std::vector<ContextSource>{{1, k}, {1, v}}
                       : std::vector<ContextSource>{{1, k}, {1, v}, {0, v}};
    case 2:
      return kind == v ? std::vector<ContextSource>{{2, v}, {1, v}}
                       : std::vector<ContextSource>{{1, k}, {2, k}, {1, v}, {2, v}, {0, v}};
    case 5:
      return {{2, Kind::kL}};
    default:
      return {};
  }
}

std::shared_ptr<const Profile> make_profile() {
  std::mt19937 random(19);
  const auto up_to = [&](int most) {  // -most to most
    return static_cast<int>(random() % static_cast<unsigned>(2 * most + 1)) - most;
  };
  const Meta all = meta(1, DType::kBF16, kAllLayers);
  Profile profile;
  profile.model = all.model;
  profile.level = 2;
  profile.made_from = "golden files";
  profile.map = {{-8, 3.5, 0.0005}, {0, 2.5, 0.002}};
  for (const auto& [layer, kind] : order_of(all)) {
    TensorProfile& t = profile.tensors.emplace_back();
    t.layer = layer;
    t.kind = kind;
    t.channels = all.shape_of({.kind = kind, .layer = layer}).row_values();
    t.context = context_of(layer, kind);
    for (const ContextSource& from : t.context) {
      t.inputs += all.shape_of({.kind = from.kind, .layer = layer - from.layers_back}).row_values();
    }
    for (std::int64_t i = 0; i < t.channels * t.inputs; ++i) {
      t.predictor.push_back(static_cast<std::int8_t>(up_to(4)));
    }
    for (int c = 0; c < t.channels; ++c) {
      for (int k = 0; k < t.channels; ++k) {
        t.basis.push_back(static_cast<std::int8_t>(up_to(9) + (c == k ? 100 : 0)));
      }
      const int gain = c % 4;
      t.mean.push_back(c % 7 == 3 ? 6.0f : 0.125f * static_cast<float>(up_to(2)));
      t.unit.push_back(std::ldexp(1.0f + 0.0625f * static_cast<float>(c % 5), -10 - gain));
      t.gain.push_back(static_cast<std::int8_t>(gain));
      t.shift.push_back(static_cast<std::uint8_t>(c == 1 ? 24 : 1 + gain + c % 6));
      t.shape.push_back(static_cast<Shape>(c * 3 % kShapes));
      // From classes with low bits down to coefficients that no class codes.
      t.sigma.push_back(static_cast<std::int8_t>(32 - 50 * c / (static_cast<int>(t.channels) - 1)));
    }
  }
  return Profile::from_bytes(profile.to_bytes(), "golden");
}

// Alike in a layer's tensors, so that steps beside those of another tensor are shorter.
Importance importance_of(const Meta& meta) {
  Importance importance;
  for (std::size_t row = 0; row < importance_rows(meta).size(); ++row) {
    for (std::size_t t = 0; t < static_cast<std::size_t>(meta.token_count); ++t) {
      const std::size_t byte =
          t % 45 == 7 ? 250 : 100 + t * t * 7 % 60 + (t % 19 == row / 2 ? 14 : 0);
      importance.push_back(static_cast<std::uint8_t>(byte));
    }
  }
  return importance;
}

void write_member(Writer& writer, const Meta& meta, bool important) {
  writer.begin_member(meta, samples::ids(meta.token_count),
                      important ? importance_of(meta) : Importance{});
  for (const auto& [layer, kind] : meta.tensors()) {
    std::vector<float> values = samples::LossyTile(meta, kind, layer).values;
    const std::size_t width = values.size() / static_cast<std::size_t>(meta.token_count);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i % width == 5) values[i] = 0;     // a channel of nothing
      if (i % width == 2) values[i] = 1.5f;  // and one that does not change
    }
    if (meta.token_count > 30 && kind != Kind::kV) values[12 * width + 1] = kNan;
    if (meta.token_count > 30 && layer == 1) values[19 * width] = -kInfinity;
    const samples::LossyTile tile(meta, kind, layer, values);
    writer.write_tile(tile.header, tile.bytes);
  }
  writer.end_member();
}

template <typename Write>
std::string transcoded(Write&& write, const TranscodeOptions& options) {
  const samples::MemoryFile file(samples::written(write));
  return samples::written([&](Writer& writer) {
    TileSource source(file.path());
    transcode(source, writer, options);
  });
}

}  // namespace

Files clp() {
  set_dot_target(DotTarget::kScalar);
  set_vector_target(VectorTarget::kBaseline);
  const auto profile = make_profile();
  add_profile(profile);
  Files files = {{"clp.kvp", std::string(as_text(Profile(*profile).to_bytes()))}};
  const auto add = [&](const std::string& name, int step, auto&& write, std::int64_t tile = 40) {
    const ClpOptions options{.profile = profile, .base_step = step, .tokens_per_tile = tile};
    const std::string coded = transcoded(write, {.clp = options});
    const Codec& raw = codec_by_name("raw");
    files.emplace_back("lossy_clp" + name + ".kv", coded);
    files.emplace_back("lossy_clp" + name + "_values.kv", samples::written([&](Writer& writer) {
                         const samples::MemoryFile file(coded);
                         TileSource source(file.path());
                         transcode(source, writer, {.codec = &raw});
                       }));
  };
  // Two tiles a tensor, the last of 29 tokens.
  add("", 0, [](Writer& w) { write_member(w, meta(69, DType::kBF16, kAllLayers), true); });
  // Enough tokens for steps beside those of another tensor to pay.
  add(
      "-steps", -5, [](Writer& w) { write_member(w, meta(140, DType::kBF16, {0}), true); }, 140);
  // Coefficients of many low bits, and such as need a token's step to be wider.
  add("-fine", -44, [](Writer& w) { write_member(w, meta(33, DType::kF32, {0, 1}), false); });
  // Hardly anything is coded; from where nothing before is needed.
  add("-coarse", 27, [](Writer& w) { write_member(w, meta(41, DType::kF16, {3, 5}), false); });
  add("-one", 3, [](Writer& w) {
    write_member(w, meta(1, DType::kBF16, {0, 1}), true);
    write_member(w, meta(1, DType::kBF16, {0}), false);
  });
  add("-fp8", -3, [](Writer& w) {
    write_member(w, meta(35, DType::kF8E4M3, {0}), true);
    write_member(w, meta(35, DType::kF8E5M2, {0}), false);
  });
  return files;
}

}  // namespace kv::golden
