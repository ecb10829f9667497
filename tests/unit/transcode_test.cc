// Whole streams through the codec: threads, raw fallback, forged tiles.
#include "kv/codec/transcode.hh"

#include "container_forge.hh"
#include "container_samples.hh"
#include "kv/codec/join.hh"

#include <doctest/doctest.h>

#include <filesystem>

using namespace kv;

namespace {

std::string transcoded(const std::string& stream, const TranscodeOptions& options) {
  const samples::MemoryFile file(stream);
  return samples::written([&](Writer& writer) {
    TileSource source(file.path(), TileSource::Access::kSome);
    transcode(source, writer, options);
  });
}

std::string refusal(const std::string& stream, const TranscodeOptions& options) {
  try {
    transcoded(stream, options);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kInput);
    CHECK(std::string(error.what()).find('\n') == std::string::npos);
    return error.what();
  }
  return "";
}

std::string sample(std::int64_t tokens = 700, std::uint32_t tile_tokens = 100) {
  return samples::written([&](Writer& writer) {
    samples::write_member(writer, samples::small_meta(tokens), tile_tokens);
    samples::write_member(writer, samples::small_meta(3, DType::kF32), tile_tokens);
  });
}

TranscodeOptions to(const char* codec, int threads = 1) {
  TranscodeOptions options{.codec = &codec_by_name(codec)};
  options.threads = threads;
  return options;
}

// The first tile of one member with one tensor tile of `tokens`, its data replaced, hashes right.
std::string forged(const format::TileHeader& edit, ByteView data, std::int64_t tokens) {
  Meta meta = samples::small_meta(tokens);
  meta.layers.resize(1);
  std::string stream =
      samples::written([&](Writer& writer) { samples::write_member(writer, meta); });
  std::vector<forge::Frame> frames = forge::split(stream);
  for (forge::Frame& frame : frames) {
    if (frame.type != format::FrameType::kTensor) continue;
    forge::change<format::TileHeader>(frame, [&](format::TileHeader& tile) {
      tile.codec = edit.codec;
      tile.quality = edit.quality;
    });
    frame.payload.resize(sizeof(format::TileHeader));
    frame.payload += as_text(data);
    break;
  }
  std::erase_if(frames, [](const forge::Frame& f) { return f.type == format::FrameType::kIndex; });
  std::uint64_t size = sizeof(format::MemberHeader);
  for (const forge::Frame& frame : frames) {
    size += sizeof(format::FrameHeader) + (frame.payload.size() + 15) / 16 * 16;
  }
  forge::change<format::EndPayload>(frames.back(), [&](format::EndPayload& end) {
    end = {.frame_count = frames.size(), .member_size_bytes = size};
  });
  return forge::join(frames);
}

}  // namespace

TEST_CASE("coded and back: the same bytes, for any number of threads") {
  const std::string stream = sample();
  const std::string coded = transcoded(stream, to("planes"));
  CHECK(coded.size() < stream.size());
  CHECK(transcoded(coded, to("raw")) == stream);
  for (const int threads : {2, 3, 9}) {
    CHECK(transcoded(stream, to("planes", threads)) == coded);
    CHECK(transcoded(coded, to("raw", threads)) == stream);
  }
  CHECK(transcoded(coded, {}) == coded);
}

TEST_CASE("cuts: only the tokens asked for, in tiles no larger than asked for") {
  TranscodeOptions options = to("planes", 3);
  options.tokens_per_tile = 33;
  options.tokens = {50, 333};
  options.layers = {1, 2};
  options.members = {{0, 1}};
  const samples::MemoryFile cut(transcoded(sample(), options));
  const IndexedFile file(cut.path());
  REQUIRE(file.members() == 1);
  CHECK(file.meta(0).token_count == 283);
  CHECK(file.meta(0).first_position == 50);
  const std::vector<std::int32_t> ids = samples::ids(700);
  CHECK(file.tokens(0) == std::vector<std::int32_t>(ids.begin() + 50, ids.begin() + 333));
  for (const format::IndexEntry& entry : file.index(0)) CHECK(entry.tile.token_count <= 33);

  options.codec = &codec_by_name("raw");
  options.tokens_per_tile = 0;
  TranscodeOptions back = to("raw");
  const samples::MemoryFile whole(transcoded(sample(), options));
  const auto values = [](const IndexedFile& kv, std::size_t entries) {
    std::string all;
    for (std::size_t i = 0; i < entries; ++i) {
      const Tile tile = kv.tile(0, i);
      Bytes scratch;
      all += as_text(decoded_tile(kv.meta(0), tile, "test", scratch).bytes);
    }
    return all;
  };
  const IndexedFile plain(whole.path());
  CHECK(values(file, file.index(0).size()) == values(plain, plain.index(0).size()));
}

TEST_CASE("importance goes along, cut as the tokens are, unless told not to") {
  const Meta meta = samples::small_meta(7);
  Importance bytes;
  for (std::uint8_t i = 0; i < 28; ++i) bytes.push_back(static_cast<std::uint8_t>(100 + i));
  const std::string stream = samples::written([&](Writer& writer) {
    writer.begin_member(meta, samples::ids(7), bytes);
    samples::write_tensors(writer, meta, 3);
    writer.end_member();
  });
  const auto kept = [&](const TranscodeOptions& options) {
    const samples::MemoryFile file(transcoded(stream, options));
    return IndexedFile(file.path()).importance(0);
  };
  CHECK(kept({}) == bytes);
  CHECK(kept(to("planes")) == bytes);
  CHECK(transcoded(transcoded(stream, to("planes")), to("raw")) == stream);
  TranscodeOptions part;
  part.layers = {1, 2};
  part.tokens = {5, -1};
  CHECK(kept(part) == Importance{119, 120, 126, 127});
  part.keep_importance = false;
  CHECK(kept(part).empty());

  // Parts joined again, by tokens and by layers; not if one has none.
  const auto cut = [&](Range layers, Range tokens, bool keep = true) {
    TranscodeOptions options;
    options.layers = layers;
    options.tokens = tokens;
    options.keep_importance = keep;
    return samples::MemoryFile(transcoded(stream, options));
  };
  const auto joined = [](const samples::MemoryFile& a, const samples::MemoryFile& b) {
    const samples::MemoryFile whole(samples::written([&](Writer& writer) {
      join({a.path(), b.path()}, writer, {});
    }));
    return IndexedFile(whole.path()).importance(0);
  };
  CHECK(joined(cut({}, {0, 2}), cut({}, {2, -1})) == bytes);
  CHECK(joined(cut({0, 1}, {}), cut({1, -1}, {})) == bytes);
  CHECK(joined(cut({}, {0, 2}), cut({}, {2, -1}, false)).empty());
  CHECK(joined(cut({0, 1}, {}, false), cut({1, -1}, {})).empty());
}

TEST_CASE("what does not shrink is written raw") {
  Bytes noise(64 * 4);
  std::uint32_t state = 1;
  for (std::byte& byte : noise) byte = static_cast<std::byte>((state = state * 1664525 + 1) >> 24);
  Meta meta = samples::small_meta(16, DType::kI8);
  meta.layers = {{.index = 0, .geometry = {.kv_heads = 2, .k_dim = 4, .v_dim = 4, .rope = {}}}};
  const std::string stream = samples::written([&](Writer& writer) {
    writer.begin_member(meta, {});
    const ByteView half = ByteView(noise).first(128);
    writer.write_raw(format::Kind::kK, 0, {DType::kI8, {16, 2, 4}, half});
    writer.write_raw(format::Kind::kV, 0, {DType::kI8, {16, 2, 4}, half});
    writer.end_member();
  });
  const std::string coded = transcoded(stream, to("planes"));
  const samples::MemoryFile file(coded);
  CHECK(IndexedFile(file.path()).index(0)[0].tile.codec == format::kRaw);
  CHECK(transcoded(coded, to("raw")) == stream);
}

TEST_CASE("members that are not there") {
  TranscodeOptions options = to("raw");
  options.members = {{0, 1}, {5, 6}};
  CHECK_THROWS_WITH_AS(transcoded(sample(), options), doctest::Contains("member 5"), Error);
}

TEST_CASE("tiles with right hashes and wrong contents are refused with their place") {
  const Bytes few(12);
  const auto says = [&](const format::TileHeader& tile, ByteView data, const char* text,
                        std::int64_t tokens = 5) {
    const std::string stream = forged(tile, data, tokens);
    for (const int threads : {1, 4}) {
      CHECK(refusal(stream, to("raw", threads)).find(text) != std::string::npos);
    }
    CHECK(refusal(stream, to("raw")).find("layer 0 K") != std::string::npos);
  };
  says({.codec = 77}, few, "codec 77 is not known");
  says({.codec = format::kPlanes}, few, "plane 0");
  says({.codec = format::kPlanes}, {}, "4 bytes needed, 0 left");
  // 12 bytes that would be 12 MiB: refused before memory is taken.
  says({.codec = format::kPlanes}, few, "cannot hold", 1 << 22);
}
