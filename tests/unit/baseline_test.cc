// The codecs that others use, q8_0, q4_0 and kivi: their bytes and their errors.
#include "lossy_samples.hh"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>

using namespace kv;
using format::Kind;
using samples::lossy_meta;
using samples::LossyTile;

namespace {

std::unique_ptr<Codec> kivi(int bits, bool rope = false) {
  return make_encoder("kivi", {.bits = bits, .rope = rope});
}

// What a value may be off: `bound` of the codec, then rounding to the dtype.
void check_errors(const LossyTile& tile, const std::vector<float>& back,
                  const std::function<float(std::size_t token, std::size_t channel)>& bound) {
  const auto width = static_cast<std::size_t>(tile.view.row_values());
  const float last_place = tile.view.dtype == DType::kF32    ? 0x1p-22f
                           : tile.view.dtype == DType::kF16  ? 0x1p-11f
                           : tile.view.dtype == DType::kBF16 ? 0x1p-8f
                                                             : 0x1p-3f;
  for (std::size_t i = 0; i < back.size(); ++i) {
    const float allowed = bound(i / width, i % width) * (1 + 0x1p-20f);
    const float most = allowed + (std::fabs(tile.values[i]) + allowed) * last_place;
    if (!(std::fabs(back[i] - tile.values[i]) <= most)) {
      CAPTURE(i);
      CHECK(std::fabs(back[i] - tile.values[i]) <= most);
    }
  }
}

// Of the values of row `token` in the block of `group` with `channel`: the largest magnitude, and
// how far apart they are.
struct Span {
  float most = 0, range = 0;
};
Span block_of(const LossyTile& tile, std::size_t token, std::size_t channel, std::size_t group) {
  const auto width = static_cast<std::size_t>(tile.view.row_values());
  const std::size_t first = channel / group * group, last = std::min(first + group, width);
  float low = tile.values[token * width + first], high = low;
  for (std::size_t c = first; c < last; ++c) {
    low = std::min(low, tile.values[token * width + c]);
    high = std::max(high, tile.values[token * width + c]);
  }
  return {std::max(std::fabs(low), std::fabs(high)), high - low};
}

// A scale is rounded to f16 when values are coded with its exact inverse: codes up to `codes` are
// off by as much.
float f16_loss(float scale, float codes) { return codes * scale * 0x1p-11f + 0x1p-25f * codes; }

}  // namespace

TEST_CASE("q8_0 and q4_0 are ggml's bytes") {
  // gguf 0.19.0: quantize(x, Q8_0) and (x, Q4_0), x[i] = ((i * 37) % 64 - 20) / 8, f32.
  const std::string q8 =
      "6b29c532e250006d1ece3beb59097626d744f461127f2fe04dfd6a1bcb38e8560673"
      "4b2924d343f1610f7f2ddc4cfa6a18c736e555037321d040ee5e0c7c2ad949f76715";
  const std::string q4 = "60b99c257a0358a1368b1469b24791368b1440b9368b1469b24790257a0358a1369c257a";
  Meta meta = lossy_meta(1, DType::kF32, 32, 32);
  std::vector<float> x;
  for (int i = 0; i < 64; ++i) x.push_back(static_cast<float>((i * 37) % 64 - 20) / 8);
  const LossyTile tile(meta, Kind::kK, 0, x);
  for (const auto& [name, wanted] : {std::pair("q8_0", q8), std::pair("q4_0", q4)}) {
    Coded coded;
    tile.coded(meta, *make_encoder(name, {}), &coded);
    std::string hex;
    for (const std::byte byte : coded.data) hex += fmt::format("{:02x}", byte);
    CHECK(hex == "0000000000000000" + wanted);
  }
}

TEST_CASE("errors are those of the blocks, of every dtype and shape") {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3}) {
    for (const std::int64_t tokens : {1, 2, 31, 32, 33, 100}) {
      for (const Kind kind : {Kind::kK, Kind::kV}) {
        CAPTURE(dtype_name(dtype));
        CAPTURE(tokens);
        const Meta meta = lossy_meta(tokens, dtype);
        const LossyTile tile(meta, kind, 0);
        check_errors(tile, tile.coded(meta, *make_encoder("q8_0", {})),
                     [&](std::size_t token, std::size_t channel) {
                       const float scale = block_of(tile, token, channel, 32).most / 127;
                       return scale / 2 + f16_loss(scale, 127);
                     });
        check_errors(tile, tile.coded(meta, *make_encoder("q4_0", {})),
                     [&](std::size_t token, std::size_t channel) {
                       // The side without a code of its own is cut off by up to a step.
                       const float scale = block_of(tile, token, channel, 32).most / 8;
                       return scale + f16_loss(scale, 8);
                     });
      }
    }
  }
}

TEST_CASE("kivi: keys by channel, values by token; the tokens behind the last group are exact") {
  const auto width = [](const LossyTile& tile) {
    return static_cast<std::size_t>(tile.view.row_values());
  };
  for (const int bits : {2, 3, 4}) {
    for (const std::int64_t tokens : {1, 31, 32, 33, 100}) {
      CAPTURE(bits);
      CAPTURE(tokens);
      const Meta meta = lossy_meta(tokens);
      const auto codes = static_cast<float>((1 << bits) - 1);
      // Of the step: half, and what f16 makes it longer.
      const auto bound = [&](Span span) {
        return (span.range + span.most * 0x1p-10f) / codes * (0.5f + 0x1p-10f) + 0x1p-24f;
      };
      const LossyTile values(meta, Kind::kV, 1);
      check_errors(values, values.coded(meta, *kivi(bits)),
                   [&](std::size_t token, std::size_t channel) {
                     return bound(block_of(values, token, channel, 32));
                   });
      const LossyTile keys(meta, Kind::kK, 1);
      const std::size_t grouped = static_cast<std::size_t>(tokens) / 32 * 32;
      const std::vector<float> back = keys.coded(meta, *kivi(bits));
      check_errors(keys, back, [&](std::size_t token, std::size_t channel) {
        if (token >= grouped) return 0.0f;
        float low = std::numeric_limits<float>::max(), high = -low;
        for (std::size_t t = token / 32 * 32; t < token / 32 * 32 + 32; ++t) {
          low = std::min(low, keys.values[t * width(keys) + channel]);
          high = std::max(high, keys.values[t * width(keys) + channel]);
        }
        return bound({std::max(std::fabs(low), std::fabs(high)), high - low});
      });
      for (std::size_t i = grouped * width(keys); i < back.size(); ++i) {
        CHECK(back[i] == keys.values[i]);
      }
    }
  }
}

TEST_CASE("sizes are those of the man page") {
  const Meta meta = lossy_meta(70);  // rows of 40 and 34 values
  const auto size = [&](const Codec& codec, Kind kind) {
    Coded coded;
    LossyTile(meta, kind, 0).coded(meta, codec, &coded);
    CHECK(coded.codec == codec.id());
    return coded.data.size();
  };
  CHECK(size(*make_encoder("q8_0", {}), Kind::kK) == 8 + 70 * (34 + 10));
  CHECK(size(*make_encoder("q8_0", {.rope = true}), Kind::kK) == 16 + 70 * (34 + 10));
  CHECK(size(*make_encoder("q8_0", {.rope = true}), Kind::kV) == 8 + 70 * (34 + 4));
  CHECK(size(*make_encoder("q4_0", {}), Kind::kK) == 8 + 70 * (18 + 6));
  CHECK(size(*kivi(3), Kind::kK) == 8 + 2 * (40 * 4 + 32 * 40 * 3 / 8) + 6 * 40 * 2);
  CHECK(size(*kivi(3), Kind::kV) == 8 + 70 * (2 * 4 + 13));
}

TEST_CASE("zeros and constant rows come back exactly") {
  const Meta meta = lossy_meta(64);
  for (const char* name : {"q8_0", "q4_0", "kivi"}) {
    CAPTURE(name);
    const std::unique_ptr<Codec> codec = make_encoder(name, {});
    for (const Kind kind : {Kind::kK, Kind::kV}) {
      const std::size_t count = LossyTile(meta, kind, 0).values.size();
      const LossyTile zeros(meta, kind, 0, std::vector<float>(count, 0.0f));
      CHECK(zeros.coded(meta, *codec) == zeros.values);
      const LossyTile ones(meta, kind, 0, std::vector<float>(count, -1.5f));
      CHECK(ones.coded(meta, *codec) == ones.values);
    }
  }
}

TEST_CASE(
    "what cannot be coded is kept exactly, as planes: NaN, infinities, huge numbers, E, int8") {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const char* name : {"q8_0", "q4_0", "kivi"}) {
    CAPTURE(name);
    const std::unique_ptr<Codec> codec = make_encoder(name, {.rope = true});
    const Meta meta = lossy_meta(64, DType::kF32);
    for (const float bad : {nan, infinity, -infinity, 3e38f}) {
      std::vector<float> values = LossyTile(meta, Kind::kK, 0).values;
      values[123] = bad;
      const LossyTile tile(meta, Kind::kK, 0, values);
      Coded coded;
      const std::vector<float> back = tile.coded(meta, *codec, &coded);
      CHECK(coded.codec == format::kPlanes);
      CHECK(std::memcmp(back.data(), values.data(), 4 * values.size()) == 0);
    }
    Meta hidden = lossy_meta(8, DType::kF16);
    hidden.hidden = 12;
    hidden.hidden_layers = {1};
    const LossyTile e(hidden, Kind::kE, 1);
    CHECK(codec->encode_in(hidden, e.header, e.view).codec == format::kPlanes);
    const Meta small = lossy_meta(8, DType::kI8);
    const Bytes bytes(8 * 40, std::byte{7});
    const format::TileHeader header = {.kind = Kind::kK, .dtype = DType::kI8, .token_count = 8};
    CHECK(codec->encode_in(small, header, {DType::kI8, {8, 2, 20}, bytes}).codec ==
          format::kPlanes);
  }
}

TEST_CASE("the largest numbers of a dtype stay finite") {
  for (const DType dtype : {DType::kF16, DType::kF8E4M3, DType::kF8E5M2}) {
    const Meta meta = lossy_meta(32, dtype);
    const float most = dtype == DType::kF8E4M3 ? 448.0f
                       : dtype == DType::kF16  ? 65504.0f
                                               : 57344.0f;
    std::vector<float> values(32 * 40, most);
    for (std::size_t i = 0; i < values.size(); i += 3) values[i] = -most;
    for (const char* name : {"q8_0", "q4_0", "kivi"}) {
      CAPTURE(name);
      const LossyTile tile(meta, Kind::kK, 0, values);
      Coded coded;
      for (const float value : tile.coded(meta, *make_encoder(name, {}), &coded)) {
        CHECK(std::fabs(value) <= most);
      }
      CHECK(coded.codec != format::kPlanes);
    }
  }
}

TEST_CASE("with --rope the error is that of the rotated keys") {
  const Meta meta = lossy_meta(70, DType::kF32);
  for (std::uint32_t layer = 0; layer < 3; ++layer) {
    CAPTURE(layer);
    const LossyTile tile(meta, Kind::kK, layer);
    const std::vector<float> back = tile.coded(meta, *make_encoder("q8_0", {.rope = true}));
    // A pair is turned: the error of both is at most that of both in the blocks, sqrt(2) steps of
    // the largest rotated value, which is at most sqrt(2) of the largest.
    for (std::size_t i = 0; i < back.size(); ++i) {
      const std::size_t row = i / 40 * 40;
      float most = 0;
      for (std::size_t c = 0; c < 40; ++c) most = std::max(most, std::fabs(tile.values[row + c]));
      CHECK(std::fabs(back[i] - tile.values[i]) <= 2 * most / 127 * 0.6f);
    }
    // Keys that are stored rotated are not turned again, and V never.
    Meta rotated = meta;
    rotated.rope_applied = true;
    Coded with, without;
    tile.coded(rotated, *make_encoder("q8_0", {.rope = true}), &with);
    tile.coded(rotated, *make_encoder("q8_0", {}), &without);
    CHECK(with.data == without.data);
    // KIVI keeps the tokens behind its last group as they were stored.
    const std::vector<float> kivis = tile.coded(meta, *kivi(2, true));
    CHECK(std::equal(kivis.begin() + 64 * 40, kivis.end(), tile.values.begin() + 64 * 40));
  }
}

TEST_CASE("a rotated tile knows its position, whatever becomes of the member") {
  Meta meta = lossy_meta(70);
  const LossyTile tile(meta, Kind::kK, 0);
  const std::unique_ptr<Codec> codec = make_encoder("q8_0", {.rope = true});
  const Coded coded = codec->encode_in(meta, tile.header, tile.view);
  Bytes out(tile.bytes.size()), moved(tile.bytes.size());
  codec->decode_in(meta, tile.header, coded.data, "test", out);
  meta.first_position = 0;
  format::TileHeader header = tile.header;
  header.token_begin = 5;
  codec->decode_in(meta, header, coded.data, "test", moved);
  CHECK(out == moved);
}

TEST_CASE("options that a codec has not are refused") {
  const auto refused = [](const char* name, const CodecOptions& options) {
    CHECK_THROWS_AS(make_encoder(name, options), Error);
  };
  refused("zip", {});
  refused("planes", {.rope = true});
  refused("q8_0", {.bits = 8});
  refused("q4_0", {.level = 1});
  refused("kivi", {.bits = 1});
  refused("kivi", {.bits = 5});
  refused("kivi", {.group = 7});
  refused("kivi", {.group = 129});
  CHECK(make_encoder("kivi", {.bits = 3, .group = 64, .rope = true})->name() ==
        "kivi bits=3 group=64 rope");
}

TEST_CASE("every truncation, an extra byte, reserved fields: refused") {
  const Meta meta = lossy_meta(33);
  for (const char* name : {"q8_0", "q4_0", "kivi"}) {
    CAPTURE(name);
    for (const Kind kind : {Kind::kK, Kind::kV}) {
      const std::unique_ptr<Codec> codec = make_encoder(name, {.rope = true});
      const LossyTile tile(meta, kind, 0);
      const Coded coded = codec->encode_in(meta, tile.header, tile.view);
      Bytes out(tile.bytes.size());
      const auto refused = [&](const format::TileHeader& header, const Bytes& data) {
        try {
          codec->decode_in(meta, header, data, "place", out);
          return false;
        } catch (const Error& error) {
          CHECK(error.kind() == ErrorKind::kInput);
          return true;
        }
      };
      for (std::size_t n = 0; n < coded.data.size(); ++n) {
        CHECK(refused(tile.header,
                      Bytes(coded.data.begin(), coded.data.begin() + std::ptrdiff_t(n))));
      }
      Bytes longer = coded.data;
      longer.push_back({});
      CHECK(refused(tile.header, longer));
      for (const std::size_t reserved : {3, 4, 7}) {
        Bytes changed = coded.data;
        changed[reserved] = std::byte{1};
        CHECK(refused(tile.header, changed));
      }
      Bytes flags = coded.data;
      flags[0] |= std::byte{2};
      CHECK(refused(tile.header, flags));
      format::TileHeader refined = tile.header;
      refined.quality = 1;
      CHECK(refused(refined, coded.data));
    }
  }
}

TEST_CASE("every byte flipped: values or a refusal") {
  const Meta meta = lossy_meta(33);
  for (const char* name : {"q8_0", "q4_0", "kivi"}) {
    const std::unique_ptr<Codec> codec = make_encoder(name, {.rope = true});
    const LossyTile tile(meta, Kind::kK, 1);
    const Coded coded = codec->encode_in(meta, tile.header, tile.view);
    Bytes out(tile.bytes.size());
    for (std::size_t i = 0; i < coded.data.size(); ++i) {
      Bytes damaged = coded.data;
      damaged[i] = ~damaged[i];
      try {
        codec->decode_in(meta, tile.header, damaged, "place", out);
      } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::kInput);
      }
    }
  }
}
