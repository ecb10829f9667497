// The IMPT frame: bytes and weights, writing, reading by stream and by index, cutting.
#include "container_forge.hh"
#include "container_samples.hh"
#include "kv/container/tile_source.hh"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace kv;

namespace {

// 2 layers: K and V of the first, L of the second; E has no row.
Meta meta_of(std::int64_t tokens) {
  Meta meta = samples::small_meta(tokens);
  meta.layers[1].geometry = {};
  meta.layers[1].latent_dim = 4;
  meta.hidden = 2;
  meta.hidden_layers = {0};
  return meta;
}

Importance bytes_of(std::size_t size) {
  Importance bytes;
  for (std::size_t i = 0; i < size; ++i) bytes.push_back(static_cast<std::uint8_t>(1 + i % 255));
  return bytes;
}

std::string member(const Meta& meta, const Importance& importance, bool ids = true) {
  return samples::written([&](Writer& writer) {
    writer.begin_member(meta, ids ? samples::ids(meta.token_count) : std::vector<std::int32_t>(),
                        importance);
    samples::write_tensors(writer, meta);
    writer.end_member();
  });
}

std::uint16_t minor_of(const std::string& stream) {
  return forge::value_of<format::MemberHeader>(stream).minor;
}

}  // namespace

TEST_CASE("bytes are eighths of an octave around 128") {
  CHECK(importance_byte(1) == 128);
  CHECK(importance_byte(2) == 136);
  CHECK(importance_byte(0.25) == 112);
  CHECK(importance_byte(1.04) == 128);  // 0.45 of a step
  CHECK(importance_byte(1.05) == 129);
  CHECK(importance_byte(0) == 1);
  CHECK(importance_byte(1e-30) == 1);
  CHECK(importance_byte(1e30) == 255);
  CHECK(importance_byte(std::numeric_limits<double>::infinity()) == 255);
  CHECK(importance_byte(std::nan("")) == 1);
  for (int byte = 1; byte < 256; ++byte) {
    CHECK(importance_byte(importance_weight(static_cast<std::uint8_t>(byte))) == byte);
  }
}

TEST_CASE("a row is relative to its mean") {
  const auto row = [](const std::vector<float>& weights) {
    Importance bytes(weights.size());
    put_importance(weights, bytes);
    return bytes;
  };
  CHECK(row({1, 1, 1, 1}) == Importance{128, 128, 128, 128});
  CHECK(row({3e-20f, 1e-20f, 4e-20f, 0}) == Importance{133, 120, 136, 1});
  CHECK(row({0, 0, 0}) == Importance{128, 128, 128});
  CHECK(row({1, std::nanf(""), 2}) == Importance{128, 128, 128});
  CHECK(row({1, std::numeric_limits<float>::infinity()}) == Importance{128, 128});
  CHECK(row({}).empty());
}

TEST_CASE("importance comes back by stream and by index, and makes the version 1.1") {
  const Meta meta = meta_of(5);
  REQUIRE(importance_size_bytes(meta) == 15);
  const Importance importance = bytes_of(15);
  const std::string plain = member(meta, {});
  const std::string stream = member(meta, importance) + plain + member(meta, importance, false);
  CHECK(minor_of(stream) == 1);
  CHECK(minor_of(plain) == 0);
  const samples::MemoryFile file(stream);
  for (const auto access : {TileSource::Access::kAll, TileSource::Access::kSome}) {
    TileSource source(file.path(), access);
    for (const bool there : {true, false, true}) {
      const auto back = source.next_member();
      REQUIRE(back);
      CHECK(*back == meta);
      CHECK(source.importance() == (there ? importance : Importance()));
      int tiles = 0;
      while (source.next_tile([](const format::TileHeader&) { return true; })) ++tiles;
      CHECK(tiles == 4);
    }
    CHECK_FALSE(source.next_member());
  }
}

TEST_CASE("a member of no tokens has none") {
  const std::string stream = member(meta_of(0), {});
  // An IMPT of no bytes is sound all the same.
  std::vector<forge::Frame> frames = forge::split(stream);
  frames.insert(frames.begin() + 1, {format::FrameType::kImportance, "", 1, {}, '\0'});
  forge::change<format::EndPayload>(frames.back(), [](format::EndPayload& end) {
    end.frame_count += 1;
    end.member_size_bytes += 32;
    end.index_offset += 32;
  });
  const samples::MemoryFile file(forge::join(frames, {.minor = 1}));
  Reader reader(file.input());
  REQUIRE(reader.next_member());
  CHECK(reader.importance().empty());
  CHECK_FALSE(reader.next_member());
  CHECK(IndexedFile(file.path()).importance(0).empty());
}

TEST_CASE("the writer refuses what readers would") {
  const Meta meta = meta_of(5);
  CHECK_THROWS_AS(member(meta, bytes_of(14)), std::logic_error);
  CHECK_THROWS_AS(member(meta, bytes_of(16)), std::logic_error);
  Importance zero = bytes_of(15);
  zero[7] = 0;
  CHECK_THROWS_AS(member(meta, zero), std::logic_error);
  CHECK_THROWS_AS(samples::written([&](Writer& writer) {
                    writer.begin_member(meta, {});
                    writer.write_optional({'I', 'M', 'P', 'T'}, as_bytes("x"));
                  }),
                  std::logic_error);
}

TEST_CASE("damage is refused through the index as well") {
  for (const char* name :
       {"importance_short", "importance_long", "importance_zero", "importance_required"}) {
    CAPTURE(name);
    std::vector<forge::Frame> frames = forge::split(as_text(
        Input::open(std::string(KV_TESTS "/golden-bad/") + name + ".kv").read_all(1u << 20)));
    // With an index and an END that fit.
    std::uint64_t offset = sizeof(format::MemberHeader), index_offset = 0;
    std::size_t entry = 0;
    forge::Frame& index = frames[frames.size() - 2];
    for (const forge::Frame& frame : frames) {
      if (frame.type == format::FrameType::kTensor) {
        auto value = forge::value_of<format::IndexEntry>(
            std::string_view(index.payload).substr(entry * sizeof(format::IndexEntry)));
        value.offset = offset;
        index.payload.replace(entry++ * sizeof(value), sizeof(value), forge::text_of(value));
      }
      if (frame.type == format::FrameType::kIndex) index_offset = offset;
      offset += sizeof(format::FrameHeader) + (frame.payload.size() + 15) / 16 * 16;
    }
    forge::change<format::EndPayload>(frames.back(), [&](format::EndPayload& end) {
      end = {
          .frame_count = frames.size(), .member_size_bytes = offset, .index_offset = index_offset};
    });
    const samples::MemoryFile mended(forge::join(frames));
    const IndexedFile file(mended.path());
    try {
      file.importance(0);
      FAIL("was accepted");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kInput);
      CHECK(std::string(error.what()).find("IMPT frame") != std::string::npos);
    }
  }
}

TEST_CASE("cut by layers and tokens") {
  const Meta meta = meta_of(5);
  const Importance all = bytes_of(15);  // rows 1-5, 6-10, 11-15
  CHECK(slice_importance(all, meta, {}, {}) == all);
  CHECK(slice_importance(all, meta, {0, 1}, {1, 3}) == Importance{2, 3, 7, 8});
  CHECK(slice_importance(all, meta, {1, -1}, {4, -1}) == Importance{15});
  CHECK(slice_importance({}, meta, {0, 1}, {1, 3}).empty());
}

TEST_CASE("its rows have names") {
  const samples::MemoryFile file(member(meta_of(5), bytes_of(15)));
  std::vector<std::string> names;
  Reader::Options options;
  options.on_field = [&](const FieldNote& note) {
    if (note.name.starts_with("importance")) names.push_back(note.name);
  };
  Reader reader(file.input(), options);
  REQUIRE(reader.next_member());
  CHECK(names == std::vector<std::string>{"importance.K[0]", "importance.V[0]", "importance.L[1]"});
}
