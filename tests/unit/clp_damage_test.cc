// The codec `clp` on what nobody should send: damaged streams and profiles, with their checksums
// and with forged ones, and values that no model makes.

#include "clp_layers.hh"
#include "container_samples.hh"
#include "kv/base/hash.hh"
#include "kv/codec/profiles.hh"
#include "kv/codec/transcode.hh"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

namespace {

using namespace kv::test;
using kv::Bytes;
using kv::DType;

std::string transcoded(const std::string& stream, const kv::TranscodeOptions& options) {
  const kv::samples::MemoryFile file(stream);
  return kv::samples::written([&](kv::Writer& writer) {
    kv::TileSource source(file.path());
    kv::transcode(source, writer, options);
  });
}

// The member of clp_layers.hh, in any dtype, with values by (token, channel, tensor).
using Value = std::function<float(std::int64_t, std::int64_t, std::uint32_t)>;
std::string member(std::int64_t tokens, DType dtype, const Value& value,
                   const kv::Importance& importance = {}) {
  kv::Meta meta = make_meta(tokens);
  meta.model.fingerprint = std::string(32, 'a');
  meta.dtype = dtype;
  return kv::samples::written([&](kv::Writer& writer) {
    writer.begin_member(meta, kv::samples::ids(tokens), importance);
    std::uint32_t tensor = 0;
    for (const auto& [layer, kind] : meta.tensors()) {
      std::vector<float> rows;
      for (std::int64_t t = 0; t < tokens; ++t) {
        for (std::int64_t c = 0; c < kChannels; ++c) rows.push_back(value(t, c, tensor));
      }
      ++tensor;
      Bytes bytes(rows.size() * kv::dtype_size_bytes(dtype));
      kv::convert(std::as_bytes(std::span(rows)), DType::kF32, bytes, dtype);
      writer.write_tile({.kind = kind,
                         .dtype = dtype,
                         .layer = layer,
                         .token_count = static_cast<std::uint32_t>(tokens)},
                        bytes);
    }
    writer.end_member();
  });
}

float plain(std::int64_t token, std::int64_t channel, std::uint32_t tensor) {
  const auto x = static_cast<double>(token * 31 + channel * 17 + tensor * 7);
  return static_cast<float>(8 * std::sin(x * x));
}

// All values of a stream of raw tiles.
std::vector<float> values_of(const std::string& stream) {
  const kv::samples::MemoryFile file(stream);
  kv::Reader reader(file.input());
  reader.next_member();
  std::vector<float> values;
  while (const auto tile = reader.next_tile()) {
    const std::size_t before = values.size();
    values.resize(before + tile->data.size() / kv::dtype_size_bytes(tile->header.dtype));
    kv::convert(tile->data, tile->header.dtype,
                std::as_writable_bytes(std::span(values).subspan(before)), DType::kF32);
  }
  return values;
}

const kv::TranscodeOptions kRaw = {.codec = &kv::codec_by_name("raw")};

std::string coded_of(const std::string& raw, const kv::ClpOptions& options = {}) {
  kv::ClpOptions with = options;
  with.profile = make_profile();
  kv::add_profile(with.profile);
  return transcoded(raw, {.clp = with, .threads = 2});
}

std::string there_and_back(const std::string& raw, const kv::ClpOptions& options = {}) {
  return transcoded(coded_of(raw, options), kRaw);
}

// Nothing but kInput may come of it. Whether it did.
template <typename F>
bool refused(F&& attempt) {
  try {
    attempt();
  } catch (const kv::Error& error) {
    CHECK(error.kind() == kv::ErrorKind::kInput);
    return true;
  }
  return false;
}

Bytes mended(Bytes profile) {
  const std::uint64_t size = profile.size();
  const std::uint64_t hash = kv::xxh3_64(kv::ByteView(profile).subspan(32));
  std::memcpy(profile.data() + 16, &size, sizeof(size));
  std::memcpy(profile.data() + 24, &hash, sizeof(hash));
  return profile;
}

// Tiles with all that a tile may have: steps, exact tokens, escapes and low bits.
std::vector<Layer> rich_layers(std::int64_t tokens, const kv::ClpOptions& options) {
  std::vector<Layer> raw = raw_layers(tokens, tokens);
  reinterpret_cast<float*>(raw[1].tiles[0].data.data())[3 * kChannels] = NAN;
  reinterpret_cast<float*>(raw[0].tiles[1].data.data())[7 * kChannels] = 300;
  kv::ClpMember encoder(make_meta(tokens), "test", 1);
  kv::Importance importance;
  for (std::int64_t i = 0; i < 4 * tokens; ++i) {
    importance.push_back(static_cast<std::uint8_t>(i % 29 == 5 ? 240 : 100 + i * 13 % 50));
  }
  encoder.set_importance(importance);
  std::vector<Layer> layers;
  for (const Layer& layer : raw) layers.push_back({encoder.encode(layer.tiles, options)});
  return layers;
}

}  // namespace

TEST_CASE("every byte of a file flipped is found") {
  const std::string coded = coded_of(member(40, DType::kBF16, plain));
  for (std::size_t i = 0; i < coded.size(); ++i) {
    std::string damaged = coded;
    damaged[i] = static_cast<char>(~damaged[i]);
    CAPTURE(i);
    CHECK(refused([&] { transcoded(damaged, kRaw); }));
  }
}

TEST_CASE("every byte of a profile flipped is found") {
  const Bytes sound = kv::Profile(*make_profile()).to_bytes();
  for (std::size_t i = 0; i < sound.size(); ++i) {
    // The name alone can be another's: what it stands for is then not this.
    for (const std::byte bits : {std::byte{0x01}, std::byte{0x80}, std::byte{0xFF}}) {
      Bytes damaged = sound;
      damaged[i] ^= bits;
      CAPTURE(i);
      CHECK(refused([&] { kv::Profile::from_bytes(damaged, "damaged"); }));
    }
  }
}

TEST_CASE("a profile that was changed and named anew codes and decodes something, or is refused") {
  const std::int64_t tokens = 33;
  const kv::ClpOptions sound{.profile = make_profile()};
  const std::vector<Layer> raw = raw_layers(tokens, tokens);
  const std::vector<Layer> coded = encoded(raw, tokens, sound, 1);
  const Bytes bytes = kv::Profile(*sound.profile).to_bytes();
  int taken = 0;
  for (std::size_t i = 8; i < bytes.size(); ++i) {
    CAPTURE(i);
    Bytes damaged = bytes;
    damaged[i] ^= static_cast<std::byte>(i % 2 == 0 ? 0x80 : 0x11);
    damaged = mended(std::move(damaged));
    std::shared_ptr<const kv::Profile> profile;
    if (refused([&] { profile = kv::Profile::from_bytes(damaged, "damaged"); })) continue;
    ++taken;
    std::vector<Layer> renamed = coded;
    for (Layer& layer : renamed) {
      for (kv::OwnedTile& tile : layer.tiles) {
        std::memcpy(tile.data.data(), &profile->hash, sizeof(profile->hash));
      }
    }
    const kv::ClpOptions with{.profile = profile};
    refused([&] { decoded(renamed, tokens, with, 1); });
    if (i % 16 == 0) refused([&] { decoded(encoded(raw, tokens, with, 1), tokens, with, 1); });
  }
  CHECK(taken > 1000);  // most bytes are weights
}

TEST_CASE("a tile that was changed and hashed anew decodes to something, or is refused") {
  const std::int64_t tokens = 45;
  for (const int step : {-24, 0}) {
    const kv::ClpOptions options{.profile = make_profile(), .base_step = step};
    const std::vector<Layer> coded = rich_layers(tokens, options);
    int same_as_before = 0, not_taken = 0, attempts = 0;
    const std::vector<Layer> back = decoded(coded, tokens, options, 1);
    for (std::size_t at = 0; at < 4; ++at) {
      const std::size_t size = coded[at / 2].tiles[at % 2].data.size();
      for (std::size_t i = 0; i < size; ++i) {
        for (const std::byte bits : {std::byte{0x01}, std::byte{0x40}, std::byte{0xFF}}) {
          std::vector<Layer> damaged = coded;
          damaged[at / 2].tiles[at % 2].data[i] ^= bits;
          ++attempts;
          not_taken += refused(
              [&] { same_as_before += same_data(back, decoded(damaged, tokens, options, 1)); });
        }
        std::vector<Layer> cut = coded;
        cut[at / 2].tiles[at % 2].data.resize(i);
        CHECK(refused([&] { decoded(cut, tokens, options, 1); }));
      }
      std::vector<Layer> longer = coded;
      longer[at / 2].tiles[at % 2].data.resize(size + 2);
      CHECK(refused([&] { decoded(longer, tokens, options, 1); }));
    }
    CHECK(not_taken > attempts / 2);
    // Low bits of escapes and of lanes without a token have no meaning.
    CHECK(same_as_before < attempts / 20);
  }
}

TEST_CASE("counts that a tile does not have are refused before memory is taken") {
  const std::int64_t tokens = 64;
  const kv::ClpOptions options{.profile = make_profile()};
  const std::vector<Layer> coded = encoded(raw_layers(tokens, tokens), tokens, options, 1);
  for (const std::size_t field : {12, 14, 16, 20}) {
    CAPTURE(field);
    std::vector<Layer> damaged = coded;
    const std::uint32_t many = 0xFFFFFFFF;
    std::memcpy(damaged[0].tiles[1].data.data() + field, &many, field < 16 ? 2 : 4);
    CHECK(refused([&] { decoded(damaged, tokens, options, 1); }));
  }
}

TEST_CASE("zeros, channels that do not change, subnormals: within a step, in every dtype") {
  for (const DType dtype :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2}) {
    CAPTURE(kv::dtype_name(dtype));
    for (const Value& value : std::initializer_list<Value>{
             [](auto, auto, auto) { return 0.0f; }, [](auto, auto, auto) { return -0.0f; },
             [](auto, std::int64_t c, auto) { return static_cast<float>(c % 5) - 2; },
             [](std::int64_t t, auto, auto) { return t % 2 ? 1e-41f : -1e-45f; },
             [](std::int64_t t, auto, auto) { return t % 2 ? 6e-8f : -3e-8f; },
             [](std::int64_t t, std::int64_t c, auto) { return c == 3 ? 7.5f : plain(t, c, 0); }}) {
      const std::string raw = member(70, dtype, value);
      const std::vector<float> before = values_of(raw), after = values_of(there_and_back(raw));
      REQUIRE(before.size() == after.size());
      for (std::size_t i = 0; i < before.size(); ++i) {
        // NaN would not be below. A step is about 3; what no class codes is lost whole.
        if (!(std::fabs(before[i] - after[i]) < 40.0f)) FAIL("value " << i << " is lost");
      }
    }
  }
}

TEST_CASE("rows that are not finite or too large come back to the bit, and others beside them") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::nanf("5"), -std::nanf(""), infinity, -infinity, 3e38f, -1e30f}) {
    for (const std::int64_t every : {1, 9}) {  // 1: all rows
      const std::string raw = member(50, DType::kF32, [&](auto t, auto c, auto tensor) {
        return t % every == 0 && c == t % kChannels ? bad : plain(t, c, tensor);
      });
      const std::vector<float> before = values_of(raw), after = values_of(there_and_back(raw));
      for (std::size_t row = 0; row < before.size() / kChannels; ++row) {
        const std::size_t at = row * kChannels;
        const bool same = std::memcmp(&before[at], &after[at], kChannels * sizeof(float)) == 0;
        if (row % 50 % static_cast<std::size_t>(every) == 0) {
          CHECK(same);
        } else {
          for (std::size_t c = 0; c < kChannels; ++c) CHECK(std::isfinite(after[at + c]));
        }
      }
    }
  }
}

TEST_CASE("one token, exact or coded") {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    const std::string raw = member(1, dtype, plain);
    CHECK(values_of(there_and_back(raw)) == values_of(raw));  // the first is exact
    const std::string important = member(1, dtype, plain, kv::Importance(4, 128));
    const std::vector<float> before = values_of(raw), after = values_of(there_and_back(important));
    CHECK(before != after);
    for (std::size_t i = 0; i < before.size(); ++i) CHECK(std::fabs(before[i] - after[i]) < 40.0f);
  }
}

TEST_CASE("100,000 tokens, in tiles small and as large as can be") {
  const std::int64_t tokens = 100'000;
  const std::string raw = member(tokens, DType::kBF16, plain);
  std::string first;
  for (const std::int64_t size : {1000, 1 << 15}) {
    const std::string coded = coded_of(raw, {.tokens_per_tile = size});
    CHECK(coded.size() < raw.size() / 2);
    const std::string back = transcoded(coded, {.codec = kRaw.codec, .threads = 2});
    CHECK(back == transcoded(coded, kRaw));
    // Tiles are others, values are the same.
    const std::vector<float> values = values_of(back);
    const std::string bytes(kv::as_text(std::as_bytes(std::span(values))));
    if (first.empty()) first = bytes;
    CHECK(bytes == first);
  }
}

TEST_CASE("a geometry that the profile is not of is refused") {
  kv::Meta meta = make_meta(10);
  meta.model.fingerprint = std::string(32, 'a');
  meta.layers[1].geometry = {.kv_heads = 1, .k_dim = 1, .v_dim = 1};
  const std::string raw =
      kv::samples::written([&](kv::Writer& writer) { kv::samples::write_member(writer, meta); });
  CHECK(refused([&] { coded_of(raw); }));
}
