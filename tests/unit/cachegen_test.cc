// CacheGen, as its paper and as its public code have it.
#include "container_samples.hh"
#include "kv/codec/cachegen_profile.hh"
#include "lossy_samples.hh"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>

using namespace kv;
using format::Kind;
using samples::lossy_meta;
using samples::LossyTile;

namespace {

std::string file_of(const Meta& meta) {
  return samples::written([&](Writer& writer) {
    writer.begin_member(meta, {});
    for (const auto& [layer, kind] : meta.tensors()) {
      writer.write_raw(kind, layer, LossyTile(meta, kind, layer).view);
    }
    writer.end_member();
  });
}

// A profile of the sample's channels and a file that holds it.
struct Profile {
  CacheGenProfile profile;
  samples::MemoryFile file;

  explicit Profile(const Meta& meta, bool rotated = false)
      : profile(made(meta, rotated)), file(as_text(profile.bytes())) {}
  static CacheGenProfile made(const Meta& meta, bool rotated) {
    const samples::MemoryFile kv(file_of(meta));
    return make_cachegen_profile({kv.path()}, rotated);
  }
  std::unique_ptr<Codec> encoder(int level, bool rope = false) const {
    return make_encoder("cachegen", {.level = level, .profile = file.path(), .rope = rope});
  }
};

std::unique_ptr<Codec> code(int level, const char* tables = "shipped", std::int64_t chunk = 256) {
  return make_encoder("cachegen-code", {.level = level, .chunk = chunk, .tables = tables});
}

// Of f32 tiles: what the man page says of anchors and of what is between them, from what came back.
void check_groups(const LossyTile& tile, const std::vector<float>& back, float step) {
  const auto width = static_cast<std::size_t>(tile.view.row_values());
  std::size_t wrong = 0;
  for (std::size_t first = 0; first < back.size(); first += width) {
    const std::size_t token = first / width, anchor = token / 10 * 10 * width;
    float most = 0;
    double squares = 0;
    for (std::size_t c = 0; c < width; ++c) {
      most = std::max(most, std::fabs(tile.values[first + c]));
      const double delta = tile.values[first + c] - back[anchor + c];
      squares += delta * delta;
    }
    const auto rms = static_cast<float>(std::sqrt(squares / static_cast<double>(width)));
    const float bin = (token % 10 == 0 ? most / 127 : rms * step) * (1 + 0x1p-10f);
    for (std::size_t c = 0; c < width; ++c) {
      const float error = std::fabs(back[first + c] - tile.values[first + c]);
      wrong += !(error <= bin / 2 + most * 0x1p-20f);
    }
  }
  CHECK(wrong == 0);
}

bool refused(const Codec& codec, const Meta& meta, const LossyTile& tile, const Bytes& data,
             std::string* why = nullptr) {
  Bytes out(tile.bytes.size());
  try {
    codec.decode_in(meta, tile.header, data, "place", out);
    return false;
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kInput);
    if (why) *why = error.what();
    return true;
  }
}

}  // namespace

TEST_CASE("cachegen: errors are those of anchors and steps, at all levels") {
  const Meta meta = lossy_meta(64, DType::kF32);
  const Profile profile(meta);
  for (const auto& [layer, kind] : meta.tensors()) {
    const LossyTile tile(meta, kind, layer);
    std::size_t last = SIZE_MAX;
    for (int level = 1; level <= 9; ++level) {
      const auto captured_layer = layer;  // clang 14 captures no binding
      CAPTURE(captured_layer);
      CAPTURE(level);
      const auto index = static_cast<std::size_t>(level - 1);
      const float step = kCacheGenFactors[index] * 0.5f * static_cast<float>(layer + 1);
      CHECK(profile.profile.find(layer, kind)->steps[index] == step);
      Coded coded;
      check_groups(tile, tile.coded(meta, *profile.encoder(level), &coded), step);
      CHECK(coded.codec == format::kCacheGen);
      CHECK(coded.data.size() < last);
      last = coded.data.size();
    }
  }
}

TEST_CASE("cachegen: tokens of every number, rows of two strips, tiles of two streams") {
  for (const auto& [tokens, k_dim] :
       {std::pair(1, 20), std::pair(2, 20), std::pair(10, 3), std::pair(11, 1), std::pair(331, 20),
        std::pair(45, 300), std::pair(1500, 100)}) {
    const auto captured_tokens = tokens;  // clang 14 captures no binding
    CAPTURE(captured_tokens);
    const auto captured_k_dim = k_dim;  // clang 14 captures no binding
    CAPTURE(captured_k_dim);
    Meta meta = lossy_meta(tokens, DType::kF32, k_dim, 1);
    meta.layers.resize(1);
    const Profile profile(meta);
    const LossyTile tile(meta, Kind::kK, 0);
    Coded coded;
    check_groups(tile, tile.coded(meta, *profile.encoder(4), &coded), 0.25f);
    CHECK(coded.codec == format::kCacheGen);
  }
}

TEST_CASE("cachegen: bf16 and f16 are f32 rounded") {
  const Profile profile(lossy_meta(64));
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF8E4M3}) {
    const Meta meta = lossy_meta(64, dtype), wide = lossy_meta(64, DType::kF32);
    const LossyTile tile(meta, Kind::kV, 1), exact(wide, Kind::kV, 1, tile.values);
    std::vector<float> wanted = exact.coded(wide, *profile.encoder(5));
    Bytes rounded(tile.bytes.size());
    convert(std::as_bytes(std::span(wanted)), DType::kF32, rounded, dtype);
    convert(rounded, dtype, std::as_writable_bytes(std::span(wanted)), DType::kF32);
    CHECK(tile.coded(meta, *profile.encoder(5)) == wanted);
  }
}

TEST_CASE("cachegen: values that the profile never saw are escapes, and as exact") {
  const Meta meta = lossy_meta(64, DType::kF32);
  const Profile profile(meta);
  std::vector<float> values = LossyTile(meta, Kind::kV, 0).values;
  for (std::size_t i = 0; i < values.size(); ++i) values[i] *= i % 34 < 3 ? 300.0f : -2.0f;
  const LossyTile tile(meta, Kind::kV, 0, values);
  for (const int level : {1, 5, 9}) {
    Coded coded;
    const auto index = static_cast<std::size_t>(level - 1);
    check_groups(tile, tile.coded(meta, *profile.encoder(level), &coded),
                 profile.profile.find(0, Kind::kV)->steps[index]);
    CHECK(coded.codec == format::kCacheGen);
  }
}

TEST_CASE("cachegen: a tile is near the entropy of its symbols under the profile") {
  // Counted from this very tile, so that the models fit.
  Meta meta = lossy_meta(1000, DType::kF32, 64, 64);
  meta.layers.resize(1);
  const samples::MemoryFile kv(file_of(meta));
  CacheGenRates rates;
  const CacheGenProfile profile = make_cachegen_profile({kv.path()}, false, &rates);
  const samples::MemoryFile file(as_text(profile.bytes()));
  CHECK(rates.values == 2 * 1000 * 128);
  for (const int level : {2, 6, 9}) {
    const auto index = static_cast<std::size_t>(level - 1);
    const auto encoder = make_encoder("cachegen", {.level = level, .profile = file.path()});
    std::size_t size = 0;
    for (const Kind kind : {Kind::kK, Kind::kV}) {
      const LossyTile tile(meta, kind, 0);
      size += encoder->encode_in(meta, tile.header, tile.view).data.size();
    }
    const double scales = 16.0 / 128;
    const double real =
        8.0 * static_cast<double>(size) / static_cast<double>(rates.values) - scales;
    const double models = rates.anchor_bits + rates.delta_bits[index];
    const double entropy = rates.anchor_entropy + rates.delta_entropy[index];
    CAPTURE(level);
    CHECK(models >= entropy);
    CHECK(models < entropy + 0.1);
    CHECK(std::fabs(real - models) < 0.03);
  }
}

TEST_CASE("cachegen: profiles are written as they were read, and nothing else is read") {
  const CacheGenProfile profile = Profile::made(lossy_meta(40, DType::kBF16, 2, 1), true);
  const Bytes bytes = profile.bytes();
  const CacheGenProfile again = CacheGenProfile::parse(bytes, "profile");
  CHECK(again.bytes() == bytes);
  CHECK(again.hash() == profile.hash());
  CHECK(again.rotated());
  const auto rejected = [](const Bytes& data) {
    try {
      CacheGenProfile::parse(data, "profile");
      return false;
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kInput);
      return true;
    }
  };
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    CHECK(rejected(Bytes(bytes.begin(), bytes.begin() + std::ptrdiff_t(n))));
  }
  Bytes longer = bytes;
  longer.push_back({});
  CHECK(rejected(longer));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    Bytes damaged = bytes;
    damaged[i] = ~damaged[i];
    try {
      const std::uint64_t hash = CacheGenProfile::parse(damaged, "profile").hash();
      CHECK(hash != profile.hash());  // what is accepted is another profile
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kInput);
    }
  }
}

TEST_CASE("cachegen: the profile is found by its hash, or missed with advice") {
  const Meta meta = lossy_meta(20, DType::kBF16, 6, 5);
  CacheGenProfile profile = Profile::made(meta, false);
  const LossyTile tile(meta, Kind::kV, 2);
  Coded coded;
  {
    const samples::MemoryFile file(as_text(profile.bytes()));
    tile.coded(meta, *make_encoder("cachegen", {.profile = file.path()}), &coded);
  }
  Bytes unknown = coded.data;
  unknown[8] ^= std::byte{1};
  std::string why;
  CHECK(refused(codec_by_id(format::kCacheGen, ""), meta, tile, unknown, &why));
  CHECK(why.find(".kvprofile there, or name the file in KVTOOLS_PROFILES") != std::string::npos);
  CHECK(why.find(fmt::format("{:016x}", profile.hash() ^ 1)) != std::string::npos);
  // Another model's.
  const Meta other = lossy_meta(20, DType::kBF16, 7, 6);
  const LossyTile wide(other, Kind::kV, 2);
  CHECK(refused(codec_by_id(format::kCacheGen, ""), other, wide, coded.data, &why));
  CHECK(why.find("is of another model") != std::string::npos);
  const samples::MemoryFile file(as_text(profile.bytes()));
  CHECK_THROWS_WITH_AS(
      make_encoder("cachegen", {.profile = file.path(), .rope = true}),
      fmt::format("{} was made without --rope; code so, or give another", file.path()).c_str(),
      Error);
  CHECK_THROWS_AS(make_encoder("cachegen", {.level = 10, .profile = file.path()}), Error);
  CHECK_THROWS_AS(make_encoder("cachegen", {}), Error);
}

TEST_CASE("cachegen: rotated keys") {
  const Meta meta = lossy_meta(64, DType::kF32);
  const Profile profile(meta, true);
  const LossyTile tile(meta, Kind::kK, 2);  // attention_factor 1.25
  Coded coded;
  const std::vector<float> back = tile.coded(meta, *profile.encoder(1, true), &coded);
  CHECK(coded.data[0] == std::byte{1});
  double error = 0, energy = 0;
  for (std::size_t i = 0; i < back.size(); ++i) {
    error += std::pow(back[i] - tile.values[i], 2);
    energy += std::pow(tile.values[i], 2);
  }
  CHECK(error / energy < 1e-3);
}

TEST_CASE("cachegen-code: errors are half of a bin of the row's largest magnitude") {
  const Meta meta = lossy_meta(300, DType::kF32);
  for (int level = 1; level <= 5; ++level) {
    for (const auto& [layer, kind] : meta.tensors()) {
      CAPTURE(level);
      const auto captured_layer = layer;  // clang 14 captures no binding
      CAPTURE(captured_layer);
      const LossyTile tile(meta, kind, layer);
      const auto width = static_cast<std::size_t>(tile.view.row_values());
      Coded coded;
      const std::vector<float> back = tile.coded(meta, *code(level), &coded);
      const auto centre = std::to_integer<int>(coded.data[1]) / 2 - 1;
      std::size_t wrong = 0;
      for (std::size_t first = 0; first < back.size(); first += width) {
        float most = 0;
        for (std::size_t c = 0; c < width; ++c) {
          most = std::max(most, std::fabs(tile.values[first + c]));
        }
        const float bound =
            most * (1 + 0x1p-10f) / (2 * static_cast<float>(centre)) * (1 + 0x1p-18f);
        for (std::size_t c = 0; c < width; ++c) {
          wrong += !(std::fabs(back[first + c] - tile.values[first + c]) <= bound);
        }
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("cachegen-code: bins by layer, as the public code has them of 32 layers") {
  Meta meta = lossy_meta(3);
  meta.layers.resize(1);
  for (std::uint32_t layer = 1; layer < 32; ++layer) {
    meta.layers.push_back(meta.layers[0]);
    meta.layers.back().index = layer;
  }
  const auto bins = [&](int level, Kind kind, std::uint32_t layer) {
    Coded coded;
    LossyTile(meta, kind, layer).coded(meta, *code(level), &coded);
    return std::pair(std::to_integer<int>(coded.data[1]), std::to_integer<int>(coded.data[2]));
  };
  using Two = std::pair<int, int>;
  CHECK(bins(2, Kind::kK, 0) == Two(32, 32));
  CHECK(bins(2, Kind::kK, 9) == Two(32, 32));
  CHECK(bins(2, Kind::kK, 10) == Two(16, 32));
  CHECK(bins(2, Kind::kV, 1) == Two(32, 32));
  CHECK(bins(2, Kind::kV, 2) == Two(16, 32));
  CHECK(bins(1, Kind::kK, 19) == Two(16, 16));
  CHECK(bins(1, Kind::kK, 20) == Two(12, 16));
  CHECK(bins(1, Kind::kV, 2) == Two(12, 16));
  CHECK(bins(3, Kind::kV, 31) == Two(32, 32));
  CHECK(bins(5, Kind::kK, 31) == Two(128, 128));
}

TEST_CASE("cachegen-code: tables cost what the public code ships, or less; values are the same") {
  const Meta meta = lossy_meta(600);
  const LossyTile tile(meta, Kind::kK, 0);  // 40 channels
  Coded shipped, compact, one;
  const std::vector<float> back = tile.coded(meta, *code(2), &shipped);
  CHECK(tile.coded(meta, *code(2, "compact"), &compact) == back);
  CHECK(tile.coded(meta, *code(2, "shipped", 600), &one) == back);
  // Three chunks of 33 int16 and an int32 a channel, against two varints and counts.
  const std::size_t tables = 3 * 40 * (66 + 4);
  CHECK(shipped.data.size() > tables + 2 * 600);
  CHECK(compact.data.size() + tables / 2 < shipped.data.size());
  CHECK(one.data.size() + 2 * 40 * 66 > shipped.data.size());
  CHECK(one.data.size() + 40 * 66 < shipped.data.size());
}

TEST_CASE("both: zeros, constant rows, and what cannot be coded") {
  const Meta meta = lossy_meta(33, DType::kF32);
  const Profile profile(meta);
  const std::unique_ptr<Codec> codecs[] = {profile.encoder(6), code(2), code(5, "compact")};
  for (const std::unique_ptr<Codec>& codec : codecs) {
    CAPTURE(codec->name());
    const std::size_t count = LossyTile(meta, Kind::kV, 0).values.size();
    const LossyTile zeros(meta, Kind::kV, 0, std::vector<float>(count, 0.0f));
    CHECK(zeros.coded(meta, *codec) == zeros.values);
    const LossyTile ones(meta, Kind::kV, 0, std::vector<float>(count, -1.5f));
    for (const float value : ones.coded(meta, *codec)) CHECK(std::fabs(value + 1.5f) < 0.002f);
    for (const float bad : {NAN, INFINITY, -INFINITY, 3e38f}) {
      std::vector<float> values = zeros.values;
      values[70] = bad;
      const LossyTile tile(meta, Kind::kV, 0, values);
      Coded coded;
      const std::vector<float> back = tile.coded(meta, *codec, &coded);
      CHECK(coded.codec == format::kPlanes);
      CHECK(std::memcmp(back.data(), values.data(), 4 * count) == 0);
    }
    // Smaller than any scale: nothing is left, and nothing is worse than that.
    const LossyTile tiny(meta, Kind::kV, 0, std::vector<float>(count, 1e-40f));
    for (const float value : tiny.coded(meta, *codec)) CHECK(std::fabs(value) < 1e-6f);
  }
}

TEST_CASE("both: every truncation and an extra byte are refused; flipped bytes never do worse") {
  Meta meta = lossy_meta(23, DType::kBF16, 6, 5);
  const Profile profile(meta), rotated(meta, true);
  const std::unique_ptr<Codec> codecs[] = {rotated.encoder(2, true), profile.encoder(8), code(2),
                                           code(4, "compact", 10)};
  for (const std::unique_ptr<Codec>& codec : codecs) {
    CAPTURE(codec->name());
    const LossyTile tile(meta, Kind::kK, 1);
    const Coded coded = codec->encode_in(meta, tile.header, tile.view);
    REQUIRE(coded.codec == codec->id());
    const Codec& decoder = codec_by_id(coded.codec, "");
    for (std::size_t n = 0; n < coded.data.size(); ++n) {
      CHECK(refused(decoder, meta, tile,
                    Bytes(coded.data.begin(), coded.data.begin() + std::ptrdiff_t(n))));
    }
    Bytes longer = coded.data;
    longer.push_back({});
    CHECK(refused(decoder, meta, tile, longer));
    for (std::size_t bit = 0; bit < 8 * coded.data.size(); ++bit) {
      Bytes damaged = coded.data;
      damaged[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
      refused(decoder, meta, tile, damaged);
    }
  }
}
