#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
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
