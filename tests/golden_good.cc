#include "golden_files.hh"
#include "unit/container_forge.hh"
#include "unit/container_samples.hh"

namespace kv::golden {
namespace {

using format::Kind;
using samples::small_meta;
using samples::write_member;

std::string member(const Meta& meta, std::uint32_t tile_tokens = 1u << 20) {
  return samples::written([&](Writer& writer) { write_member(writer, meta, tile_tokens); });
}

// The example of kv(5).
std::string tiny() {
  Meta meta;
  meta.model = {"tiny", "llama", "", "", "", ""};
  meta.dtype = DType::kF32;
  meta.token_count = 1;
  meta.layers.push_back(
      {.index = 0, .geometry = {.kv_heads = 1, .k_dim = 2, .v_dim = 2, .rope = {}}});
  const std::array<float, 2> k = {1.0f, -2.0f}, v = {0.5f, 3.0f};
  return samples::written([&](Writer& writer) {
    writer.begin_member(meta, std::array<std::int32_t, 1>{7});
    writer.write_raw(Kind::kK, 0, {DType::kF32, {1, 1, 2}, std::as_bytes(std::span(k))});
    writer.write_raw(Kind::kV, 0, {DType::kF32, {1, 1, 2}, std::as_bytes(std::span(v))});
    writer.end_member();
  });
}

// Layers of all kinds, all fields of META in use.
Meta full_meta() {
  Meta meta = small_meta(4);
  meta.model = {"full \u00e9\u4e2d",  "gemma3", std::string(32, 'a'),
                std::string(32, 'b'), "tuned",  std::string(32, 'c')};
  meta.layers[0].geometry.window = 512;
  meta.layers[0].geometry.rope.theta = 10000.5;
  meta.layers[1].geometry.rope.scaling = Rope::Scaling::kLinear;
  meta.layers[1].geometry.rope.factor = 8;
  LayerMeta layer = meta.layers[1];
  layer.index = 5;  // layers 2 to 4 have no cache
  layer.geometry.rope = {
      .theta = 500000, .scaling = Rope::Scaling::kLlama3, .factor = 32, .original_context = 8192};
  meta.layers.push_back(layer);
  layer.index = 6;
  layer.geometry.rope = {.theta = 1e6,
                         .scaling = Rope::Scaling::kYarn,
                         .factor = 4,
                         .original_context = 32768,
                         .attention_factor = 1.1386,
                         .yarn_truncate = false};
  meta.layers.push_back(layer);
  meta.rope_applied = true;
  meta.first_position = 1000;
  meta.chunks = {{"intro", 0, 1, true}, {"\"quoted\"\n", 2, 2, false}};
  meta.history = {{"kvprefill", "0.1.0", {"-m", "smollm2", "r\u00e9port.txt"}},
                  {"kvcat", "0.1.0", {}}};
  meta.document_json = R"({"id":"doc-1","nested":{"a":[1,2.5,null,true]}})";
  meta.extra_json = R"({"zz_later":[1],"aa_later":"x"})";
  return meta;
}

std::string hidden() {
  Meta meta = small_meta(3);
  meta.hidden = 5;
  meta.hidden_layers = {0, 1, 9};  // E of a layer without a cache, too
  return samples::written([&](Writer& writer) {
    writer.begin_member(meta, samples::ids(3));
    std::uint32_t seed = 100;
    for (const auto& [layer, kind] : meta.tensors()) {
      format::TileHeader tile{.kind = kind, .dtype = meta.dtype, .layer = layer, .token_count = 3};
      if (kind == Kind::kE) tile.dtype = DType::kF32;
      const TensorView shape = meta.shape_of(tile);
      const Bytes data = samples::values(3 * shape.row_bytes(), ++seed);
      writer.write_raw(kind, layer, {shape.dtype, shape.shape, data});
    }
    writer.end_member();
  });
}

std::string latent() {
  Meta meta = small_meta(3);
  meta.layers[1].geometry = {};
  meta.layers[1].latent_dim = 7;
  return member(meta);
}

// Two qualities, of a codec that no reader knows: the container passes it through.
std::string unknown_codec() {
  Meta meta = small_meta(3);
  meta.quality_layers = 3;
  meta.codec = "none of yours";
  return samples::written([&](Writer& writer) {
    writer.begin_member(meta, {});
    std::uint16_t refinements = 0;
    for (const auto& [layer, kind] : meta.tensors()) {
      for (std::uint16_t quality = 0; quality <= refinements; ++quality) {
        const format::TileHeader tile{.kind = kind,
                                      .dtype = meta.dtype,
                                      .codec = 60000,
                                      .layer = layer,
                                      .token_count = 3,
                                      .quality = quality};
        writer.write_tile(tile, samples::values(11u + quality, layer));
      }
      refinements = static_cast<std::uint16_t>((refinements + 1) % 3);
    }
    writer.end_member();
  });
}

// Of K and V, and of L; as in the cache of a model, E has none.
std::string importance(std::int64_t tokens, bool with_ids) {
  Meta meta = small_meta(tokens);
  meta.layers[1].geometry = {};
  meta.layers[1].latent_dim = 7;
  meta.hidden = 2;
  meta.hidden_layers = {1};
  Importance bytes;
  for (std::uint64_t i = 0; i < importance_size_bytes(meta); ++i) {
    bytes.push_back(static_cast<std::uint8_t>(1 + i * 127 % 255));
  }
  return samples::written([&](Writer& writer) {
    writer.begin_member(meta, with_ids ? samples::ids(tokens) : std::vector<std::int32_t>(), bytes);
    samples::write_tensors(writer, meta, 2);
    writer.end_member();
  });
}

std::string optional_frames() {
  const Meta meta = small_meta(2);
  return samples::written([&](Writer& writer) {
    writer.begin_member(meta, samples::ids(2));
    writer.write_optional({'n', 'o', 't', 'e'}, as_bytes("skip me"));
    samples::write_tensors(writer, meta, 1);
    writer.write_optional({'X', '\0', '\xFF', '\x1B'}, {});
    writer.end_member();
  });
}

// Version 1.1 with a frame before TOKN.
std::string newer_minor() {
  auto frames = forge::split(member(small_meta(2)));
  frames.insert(frames.begin() + 1, {forge::type_of({'N', 'E', 'W', '1'}), "1.1", 1, {}, '\0'});
  // Offsets move by the new frame.
  for (std::size_t i = 0; i < 4; ++i) {
    auto& index = frames[frames.size() - 2].payload;
    auto entry = forge::value_of<format::IndexEntry>(std::string_view(index).substr(i * 64));
    entry.offset += 48;
    index.replace(i * 64, 64, forge::text_of(entry));
  }
  forge::change<format::EndPayload>(frames.back(), [](format::EndPayload& end) {
    end.frame_count += 1;
    end.member_size_bytes += 48;
    end.index_offset += 48;
  });
  return forge::join(frames, {.minor = 1});
}

std::string no_index() {
  auto frames = forge::split(member(small_meta(2)));
  const std::size_t index_bytes = 32 + frames[frames.size() - 2].payload.size();
  frames.erase(frames.end() - 2);
  forge::change<format::EndPayload>(frames.back(), [&](format::EndPayload& end) {
    end.frame_count -= 1;
    end.member_size_bytes -= index_bytes;
    end.index_offset = 0;
  });
  return forge::join(frames);
}

std::string no_tokens() {
  const Meta meta = small_meta(4);
  return samples::written([&](Writer& writer) {
    writer.begin_member(meta, {});
    samples::write_tensors(writer, meta);
    writer.end_member();
  });
}

// Channels with means and signs of their own, as keys have them: what codecs look for.
std::string channels(DType dtype) {
  Meta meta = small_meta(64, dtype);
  meta.layers.resize(1);
  meta.layers[0].geometry.k_dim = 4;
  return samples::written([&](Writer& writer) {
    writer.begin_member(meta, samples::ids(64));
    for (const auto& [layer, kind] : meta.tensors()) {
      const TensorView shape = meta.shape_of({.kind = kind, .dtype = dtype, .token_count = 64});
      const auto width = static_cast<std::size_t>(shape.row_values());
      std::vector<float> values(64 * width);
      std::uint32_t noise = 1;
      for (std::size_t i = 0; i < values.size(); ++i) {
        noise = noise * 1664525u + 1013904223u;
        const auto channel = static_cast<float>(i % width);
        const float mean =
            (i % width % 3 == 0 ? -1.0f : 1.0f) * (channel + 0.5f) * (channel + 0.5f);
        values[i] = mean + static_cast<float>(noise >> 16) / 65536.0f;
      }
      Bytes data(values.size() * dtype_size_bytes(dtype));
      if (dtype == DType::kI8) {
        for (std::size_t i = 0; i < data.size(); ++i) {
          data[i] = static_cast<std::byte>(static_cast<int>(values[i]));
        }
      } else {
        convert(std::as_bytes(std::span(values)), DType::kF32, data, dtype);
      }
      writer.write_raw(kind, layer, {dtype, shape.shape, data});
    }
    writer.end_member();
  });
}

}  // namespace

Files good() {
  Files files = {{"tiny", tiny()},
                 {"full_meta", member(full_meta())},
                 {"hidden", hidden()},
                 {"latent", latent()},
                 {"tiles", member(small_meta(7), 3)},
                 {"members", member(small_meta(2)) + no_tokens() + member(small_meta(1))},
                 {"no_tokens", no_tokens()},
                 {"no_index", no_index()},
                 {"empty_document", member(small_meta(0))},
                 {"optional_frames", optional_frames()},
                 {"newer_minor", newer_minor()},
                 {"unknown_codec", unknown_codec()},
                 {"importance", importance(5, true) + importance(3, false)}};
  for (const DType dtype :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2, DType::kI8}) {
    files.emplace_back(dtype_name(dtype), member(small_meta(5, dtype)));
    files.emplace_back(fmt::format("channels_{}", dtype_name(dtype)), channels(dtype));
  }
  return files;
}

}  // namespace kv::golden
