#include "golden_files.hh"
#include "kv/codec/transcode.hh"
#include "unit/cachegen_samples.hh"
#include "unit/container_samples.hh"
#include "unit/lossy_samples.hh"

#include <limits>

namespace kv::golden {
namespace {

std::string transcoded(const std::string& stream, const TranscodeOptions& options) {
  const samples::MemoryFile file(stream);
  return samples::written([&](Writer& writer) {
    TileSource source(file.path());
    transcode(source, writer, options);
  });
}
std::string transcoded(const std::string& stream, const Codec& codec) {
  return transcoded(stream, TranscodeOptions{.codec = &codec});
}

// Rows of 36 and 18 values.
Meta meta() {
  Meta meta = samples::lossy_meta(45, DType::kBF16, 18, 9);
  meta.layers.erase(meta.layers.begin());
  return meta;
}

// Two tiles a tensor.
std::string source() {
  return samples::written([&](Writer& writer) {
    writer.begin_member(meta(), samples::ids(45));
    for (const auto& [layer, kind] : meta().tensors()) {
      const samples::LossyTile tile(meta(), kind, layer);
      for (const auto& [begin, count] : {std::pair(0, 40), std::pair(40, 5)}) {
        format::TileHeader header = tile.header;
        header.token_begin = static_cast<std::uint64_t>(begin);
        header.token_count = static_cast<std::uint32_t>(count);
        writer.write_tile(header, tile.view.tokens(begin, count).bytes);
      }
    }
    writer.end_member();
  });
}

// Channels that go together, tokens that matter more and less, and one that is no number.
std::string correlated_source() {
  constexpr std::int64_t kTokens = 150;
  Meta meta = samples::lossy_meta(kTokens, DType::kBF16, 6, 3);
  meta.layers.resize(1);
  Importance importance;
  for (std::size_t i = 0; i < 2 * kTokens; ++i) {
    importance.push_back(static_cast<std::uint8_t>(i % 50 == 7 ? 250 : 100 + i * 7 % 60));
  }
  return samples::written([&](Writer& writer) {
    writer.begin_member(meta, samples::ids(kTokens), importance);
    for (const auto& [layer, kind] : meta.tensors()) {
      std::vector<float> values = samples::LossyTile(meta, kind, layer).values;
      for (std::size_t i = 1; i < values.size(); ++i) values[i] += 0.75f * values[i - 1];
      values[300] = std::numeric_limits<float>::quiet_NaN();
      const samples::LossyTile tile(meta, kind, layer, values);
      writer.write_tile(tile.header, tile.bytes);
    }
    writer.end_member();
  });
}

}  // namespace

Files lossy() {
  const Bytes profile = samples::plain_profile(meta(), true).bytes();
  const samples::MemoryFile profile_file(as_text(profile));
  const std::string in = source();
  Files files = {{"lossy.kv", in}, {"lossy.kvprofile", std::string(as_text(profile))}};
  const auto add = [&](const std::string& name, const char* codec, const CodecOptions& options) {
    const std::string coded = transcoded(in, *make_encoder(codec, options));
    files.emplace_back("lossy_" + name + ".kv", coded);
    files.emplace_back("lossy_" + name + "_values.kv", transcoded(coded, codec_by_name("raw")));
  };
  add("q8_0", "q8_0", {.rope = true});
  add("q4_0", "q4_0", {});
  add("kivi", "kivi", {.bits = 3, .rope = true});
  add("cachegen", "cachegen", {.level = 1, .profile = profile_file.path(), .rope = true});
  add("cachegen-code", "cachegen-code", {.level = 1});
  add("cachegen-code-compact", "cachegen-code",
      {.level = 4, .chunk = 16, .tables = "compact", .rope = true});
  for (const auto& [name, refinements] : {std::pair("ecsq", 0), std::pair("ecsq-progressive", 2)}) {
    const std::string coded = transcoded(
        correlated_source(),
        {.ecsq = EcsqOptions{.level = 3, .refinements = refinements, .tokens_per_tile = 130}});
    files.emplace_back(fmt::format("lossy_{}.kv", name), coded);
    files.emplace_back(fmt::format("lossy_{}_values.kv", name),
                       transcoded(coded, codec_by_name("raw")));
  }
  return files;
}

}  // namespace kv::golden
