#include "kv/codec/codec.hh"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <random>

namespace {

using kv::DType;

constexpr DType kTypes[] = {DType::kF32,    DType::kF16,    DType::kBF16,
                            DType::kF8E4M3, DType::kF8E5M2, DType::kI8};

kv::format::TileHeader tile_of(DType dtype, std::int64_t tokens) {
  kv::format::TileHeader tile;
  tile.kind = kv::format::Kind::kK;
  tile.dtype = dtype;
  tile.codec = kv::format::kPlanes;
  tile.token_count = static_cast<std::uint32_t>(tokens);
  return tile;
}

kv::Bytes normal_values(DType dtype, std::int64_t tokens, std::int64_t channels) {
  std::mt19937_64 random(7);
  std::vector<float> values;
  for (std::int64_t i = 0; i < tokens * channels; ++i) {
    // The sum of twelve uniforms less six: near enough to normal, and the same everywhere.
    double sum = -6;
    for (int j = 0; j < 12; ++j) sum += static_cast<double>(random() >> 11) * 0x1p-53;
    values.push_back(static_cast<float>(std::ldexp(sum, static_cast<int>(i % channels) % 5)));
  }
  kv::Bytes bytes(values.size() * kv::dtype_size_bytes(dtype));
  if (dtype == DType::kI8) {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<std::byte>(static_cast<std::int8_t>(values[i]));
    }
  } else {
    kv::convert(std::as_bytes(std::span(values)), DType::kF32, bytes, dtype);
  }
  return bytes;
}

kv::Bytes round_trip(DType dtype, std::int64_t tokens, std::int64_t channels, kv::ByteView raw,
                     std::size_t* coded_size = nullptr) {
  const kv::Codec& codec = kv::codec_by_name("planes");
  const kv::format::TileHeader tile = tile_of(dtype, tokens);
  const kv::Bytes coded = codec.encode(tile, {dtype, {tokens, 1, channels}, raw});
  if (coded_size) *coded_size = coded.size();
  kv::Bytes out(raw.size(), std::byte{0xAA});
  codec.decode(tile, coded, "test", out);
  return out;
}

}  // namespace

TEST_CASE("every bit comes back, of every dtype and shape") {
  for (const DType dtype : kTypes) {
    for (const std::int64_t tokens : {1, 2, 33, 300}) {
      for (const std::int64_t channels : {1, 3, 64}) {
        CAPTURE(kv::dtype_name(dtype));
        CAPTURE(tokens);
        CAPTURE(channels);
        const kv::Bytes raw = normal_values(dtype, tokens, channels);
        CHECK(round_trip(dtype, tokens, channels, raw) == raw);
      }
    }
  }
}

TEST_CASE("all bit patterns of two bytes: NaN, infinities, denormals, both zeros") {
  kv::Bytes raw(2 << 16);
  for (std::size_t i = 0; i < 1 << 16; ++i) {
    raw[2 * i] = static_cast<std::byte>(i & 0xFF);
    raw[2 * i + 1] = static_cast<std::byte>(i >> 8);
  }
  CHECK(round_trip(DType::kBF16, 1024, 64, raw) == raw);
  CHECK(round_trip(DType::kF16, 1024, 64, raw) == raw);
}

TEST_CASE("constant channels and all zeros") {
  const kv::Bytes zeros(4096);
  std::size_t size = 0;
  CHECK(round_trip(DType::kBF16, 32, 64, zeros, &size) == zeros);
  CHECK(size < 256);
}

TEST_CASE("normal values shrink to near their entropy") {
  // The exponent of a normal variable has 2.6 bits; the other 8 are noise.
  const kv::Bytes raw = normal_values(DType::kBF16, 1024, 64);
  std::size_t size = 0;
  round_trip(DType::kBF16, 1024, 64, raw, &size);
  CHECK(static_cast<double>(size) < static_cast<double>(raw.size()) * 10.8 / 16);
}

TEST_CASE("the same bytes each time") {
  const kv::Bytes raw = normal_values(DType::kBF16, 100, 64);
  const kv::Codec& codec = kv::codec_by_name("planes");
  const kv::format::TileHeader tile = tile_of(DType::kBF16, 100);
  const kv::TensorView view{DType::kBF16, {100, 1, 64}, raw};
  CHECK(codec.encode(tile, view) == codec.encode(tile, view));
}

TEST_CASE("every truncation and an extra byte are refused") {
  const kv::Bytes raw = normal_values(DType::kBF16, 4, 8);
  const kv::Codec& codec = kv::codec_by_name("planes");
  const kv::format::TileHeader tile = tile_of(DType::kBF16, 4);
  kv::Bytes coded = codec.encode(tile, {DType::kBF16, {4, 1, 8}, raw});
  kv::Bytes out(raw.size());
  for (std::size_t n = 0; n < coded.size(); ++n) {
    CHECK_THROWS_AS(codec.decode(tile, kv::ByteView(coded).first(n), "test", out), kv::Error);
  }
  coded.push_back(std::byte{0});
  CHECK_THROWS_AS(codec.decode(tile, coded, "test", out), kv::Error);
  CHECK_THROWS_AS(kv::codec_by_id(60000, "test"), kv::Error);
  CHECK_THROWS_AS(kv::codec_by_name("zip"), kv::Error);
}

TEST_CASE("damaged bytes decode to something or are refused, never worse") {
  const kv::Bytes raw = normal_values(DType::kBF16, 16, 8);
  const kv::Codec& codec = kv::codec_by_name("planes");
  const kv::format::TileHeader tile = tile_of(DType::kBF16, 16);
  const kv::Bytes coded = codec.encode(tile, {DType::kBF16, {16, 1, 8}, raw});
  kv::Bytes out(raw.size());
  int refused = 0;
  for (std::size_t i = 0; i < 8 * coded.size(); ++i) {
    kv::Bytes damaged = coded;
    damaged[i / 8] ^= static_cast<std::byte>(1u << (i % 8));
    try {
      codec.decode(tile, damaged, "test", out);
    } catch (const kv::Error& error) {
      CHECK(error.kind() == kv::ErrorKind::kInput);
      ++refused;
    }
  }
  CHECK(refused > 0);
}

TEST_CASE("a channel's mean, sign and scale cost next to nothing") {
  // Channels far from zero, every third negative: what keys look like before the rotation.
  std::vector<std::uint16_t> values;
  std::mt19937_64 random(3);
  for (int i = 0; i < 1024 * 64; ++i) {
    const int channel = i % 64;
    const double noise = static_cast<double>(random() >> 11) * 0x1p-53;
    const double value = std::ldexp(channel % 3 ? 1.5 + noise : -1.5 - noise, channel % 11 - 5);
    values.push_back(
        static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(value)) >> 16));
  }
  const kv::ByteView raw = std::as_bytes(std::span(values));
  std::size_t size = 0;
  CHECK(round_trip(DType::kBF16, 1024, 64, raw, &size) == kv::Bytes(raw.begin(), raw.end()));
  CHECK(static_cast<double>(size) < static_cast<double>(raw.size()) * 9.2 / 16);
}

TEST_CASE("fields that are not as kv(5) says") {
  const kv::Bytes raw = normal_values(DType::kBF16, 64, 4);
  const kv::Codec& codec = kv::codec_by_name("planes");
  const kv::format::TileHeader tile = tile_of(DType::kBF16, 64);
  const kv::Bytes coded = codec.encode(tile, {DType::kBF16, {64, 1, 4}, raw});
  kv::Bytes out(raw.size());
  const auto refused = [&](std::size_t at, std::uint8_t byte,
                           const kv::format::TileHeader& header) {
    kv::Bytes changed = coded;
    changed[at] = std::byte{byte};
    try {
      codec.decode(header, changed, "place", out);
    } catch (const kv::Error& error) {
      CHECK(error.kind() == kv::ErrorKind::kInput);
      return std::string(error.what());
    }
    return std::string();
  };
  REQUIRE(refused(0, 4, tile).empty());  // 4 channels, as it is
  CHECK(refused(0, 5, tile) == "place: 5 channels instead of 4");
  CHECK(refused(4, 0x1E, tile) == "place: reserved bits of channel 0 are set");
  kv::format::TileHeader refined = tile;
  refined.quality = 1;
  CHECK(refused(0, 4, refined) == "place: codec planes has no quality 1");
  kv::format::TileHeader other = tile;
  other.token_count = 3;  // 256 values
  CHECK(refused(0, 4, other) == "place: 256 values do not make 3 rows");
}

TEST_CASE("a plane of two zstd frames, or with one that skips, is refused") {
  const kv::Codec& codec = kv::codec_by_name("planes");
  const kv::format::TileHeader tile = tile_of(DType::kI8, 64);
  const kv::Bytes raw(64 * 4, std::byte{3});
  const kv::Bytes coded = codec.encode(tile, {DType::kI8, {64, 1, 4}, raw});
  kv::Bytes out(raw.size());
  codec.decode(tile, coded, "place", out);
  CHECK(out == raw);
  const std::size_t field = 4 + 2 * 4;
  kv::Bytes longer = coded;
  const std::uint8_t skippable[] = {0x50, 0x2A, 0x4D, 0x18, 0, 0, 0, 0};
  longer.insert(longer.end(), reinterpret_cast<const std::byte*>(skippable),
                reinterpret_cast<const std::byte*>(skippable) + sizeof(skippable));
  longer[field] = static_cast<std::byte>(std::to_integer<unsigned>(longer[field]) + 8);
  CHECK_THROWS_WITH_AS(codec.decode(tile, longer, "place", out),
                       "place: plane 0 is not one zstd frame of 256 bytes", kv::Error);
}
