// The codec `ecsq`: what comes back is within a step, or the same bits; damage is found. And that a
// member goes through it when there is no profile.

#include "ecsq_samples.hh"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace {

using namespace kv;
using namespace kv::samples;
using format::Kind;

std::vector<float> coded(const std::vector<float>& values, std::int64_t tokens,
                         const EcsqPlan& plan = {}) {
  const TensorView view = view_of(values, tokens);
  const auto data = encode_ecsq(view, plan);
  REQUIRE(data);
  return decoded(*data, view);
}

}  // namespace

TEST_CASE("errors shrink with the step, of any number of tokens and channels") {
  for (const std::int64_t tokens : {1, 2, 63, 64, 65, 300, 1000}) {
    for (const std::int64_t channels : {1, 2, 3, 5, 64, 130}) {
      CAPTURE(tokens);
      CAPTURE(channels);
      const std::vector<float> values =
          lossy_values(static_cast<std::size_t>(tokens), static_cast<std::size_t>(channels), 3);
      double last = std::numeric_limits<double>::max();
      for (const double step : {1.0, 0.25, 0.0625}) {
        const double now = error(values, coded(values, tokens, {.step = step, .block = 64}));
        // A uniform quantiser's error is 0.29 steps; what no class codes, and zeros preferred,
        // more.
        CHECK(now <= 0.75 * step * deviation(values));
        CHECK(now <= last);
        last = now;
      }
    }
  }
}

TEST_CASE("correlated channels take fewer bytes, at the same error") {
  const std::int64_t tokens = 1000, channels = 8;
  std::vector<float> values = lossy_values(1000, 8, 5), mixed = values;
  for (std::size_t t = 0; t < 1000; ++t) {
    for (std::size_t c = 0; c < 4; ++c) {
      mixed[8 * t + 4 + c] = 0.1f * values[8 * t + 4 + c] + values[8 * t + c];
    }
  }
  const TensorView view = view_of(mixed, tokens);
  const auto with = encode_ecsq(view, {.step = 0.1, .block = channels});
  const auto without = encode_ecsq(view, {.step = 0.1, .block = 1});
  REQUIRE(with);
  REQUIRE(without);
  CHECK(with->front().size() < 0.8 * static_cast<double>(without->front().size()));
  CHECK(error(mixed, decoded(*with, view)) < 1.1 * error(mixed, decoded(*without, view)));
}

TEST_CASE("zeros and equal tokens come back, a channel without variance too") {
  const std::vector<float> zeros(64 * 20, 0.0f);
  CHECK(coded(zeros, 64) == zeros);
  std::vector<float> equal(64 * 20), constant = lossy_values(64, 20, 1);
  for (std::size_t i = 0; i < equal.size(); ++i) equal[i] = static_cast<float>(i % 20) - 4.5f;
  CHECK(error(equal, coded(equal, 64)) < 0.01);
  for (std::size_t t = 0; t < 64; ++t) constant[20 * t + 7] = 100.0f;
  const std::vector<float> back = coded(constant, 64, {.step = 0.1});
  for (std::size_t t = 0; t < 64; ++t) CHECK(std::fabs(back[20 * t + 7] - 100.0f) < 0.5f);
}

TEST_CASE("tokens with NaN, infinities and huge numbers come back to the bit") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::nanf("123"), -std::nanf(""), infinity, -infinity, 3e38f}) {
    std::vector<float> values = lossy_values(100, 20, 2);
    values[20 * 31 + 4] = bad;
    const std::vector<float> back = coded(values, 100);
    CHECK(std::memcmp(&back[20 * 31], &values[20 * 31], 20 * sizeof(float)) == 0);
    CHECK(std::isfinite(back[20 * 30 + 4]));
  }
  // All of them: not for this codec.
  const std::vector<float> nan(64 * 20, std::nanf(""));
  CHECK_FALSE(encode_ecsq(view_of(nan, 64), {}));
  // Nor subnormals, nor a mean that no step of the others reaches.
  CHECK_FALSE(encode_ecsq(view_of(std::vector<float>(64 * 20, 1e-40f), 64), {}));
  std::vector<float> apart = lossy_values(64, 20, 2);
  for (std::size_t t = 0; t < 64; ++t) apart[20 * t + 7] = 1e5f;
  CHECK_FALSE(encode_ecsq(view_of(apart, 64), {}));
}

TEST_CASE("a token that stands out is exact, and so is one that was named") {
  std::vector<float> values = lossy_values(512, 20, 2);
  for (std::size_t c = 0; c < 20; ++c) values[20 * 100 + c] *= 0.01f;
  const auto same = [&](const std::vector<float>& back, std::size_t token) {
    return std::memcmp(&back[20 * token], &values[20 * token], 20 * sizeof(float)) == 0;
  };
  CHECK(same(coded(values, 512), 100));
  CHECK_FALSE(same(coded(values, 512), 101));
  CHECK_FALSE(same(coded(values, 512, {.find_exact = false}), 100));
  CHECK(same(coded(values, 512, {.exact = {0, 101, 511}}), 511));
}

TEST_CASE("finer steps for some tokens make their errors smaller") {
  const std::vector<float> values = lossy_values(256, 20, 4);
  std::vector<std::int8_t> steps(256, 0);
  for (std::size_t t = 0; t < 256; t += 2) steps[t] = -4;
  const std::vector<float> back = coded(values, 256, {.tokens = steps, .find_exact = false});
  double fine = 0, coarse = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    (i / 20 % 2 ? coarse : fine) += std::pow(values[i] - back[i], 2);
  }
  CHECK(fine < 0.15 * coarse);
}

TEST_CASE("members: the same bytes for every number of threads, of every dtype") {
  for (const DType dtype :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2}) {
    CAPTURE(dtype_name(dtype));
    const std::string raw = member(200, dtype);
    TranscodeOptions options = {.ecsq = EcsqOptions{.tokens_per_tile = 70}};
    const std::string once = transcoded(raw, options);
    options.threads = 3;
    CHECK(transcoded(raw, options) == once);
    if (dtype == DType::kF32 || dtype == DType::kBF16) CHECK(once.size() < raw.size());
    const std::string back = transcoded(once, kRaw);
    CHECK(once.find("ecsq level=2 step=0") != std::string::npos);
    CHECK(transcoded(transcoded(once, {.codec = &codec_by_name("planes")}), kRaw) == back);
  }
}

TEST_CASE("without a profile of the model, clp gives way and says so") {
  const std::string raw = member(200, DType::kBF16);
  std::string told;
  TranscodeOptions options = {.clp = ClpOptions{}};
  CHECK_THROWS_WITH_AS(transcoded(raw, options), doctest::Contains("kvcalibrate"), Error);
  options.ecsq = EcsqOptions{};
  options.note = [&](const std::string& text) { told += text; };
  const std::string coded = transcoded(raw, options);
  CHECK(coded == transcoded(raw, {.ecsq = EcsqOptions{}}));
  CHECK(told.find("kvcalibrate -m lossy -l 2") != std::string::npos);
}

TEST_CASE("keys with RoPE applied are no hindrance") {
  Meta meta = lossy_meta(100);
  meta.rope_applied = true;
  meta.layers.resize(1);
  const std::string raw = written([&](Writer& writer) {
    writer.begin_member(meta, ids(100));
    for (const Kind kind : {Kind::kK, Kind::kV}) {
      const LossyTile tile(meta, kind, 0);
      writer.write_tile(tile.header, tile.bytes);
    }
    writer.end_member();
  });
  std::string told;
  const std::string coded = transcoded(
      raw, {.clp = ClpOptions{}, .ecsq = EcsqOptions{}, .note = [&](const std::string& text) {
              told += text;
            }});
  CHECK(coded.size() < raw.size() / 2);
  CHECK(told.find("RoPE") != std::string::npos);
  CHECK_THROWS_WITH_AS(transcoded(raw, {.clp = ClpOptions{}}), doctest::Contains("RoPE"), Error);
}

TEST_CASE("importance makes steps finer and sinks exact, and tells that it can be left out") {
  Importance importance(6 * 200, 100);
  for (std::size_t row = 0; row < 6; ++row) importance[200 * row + 50] = 250;
  const std::string with = member(200, DType::kBF16, importance);
  const auto size = [](const std::string& stream, bool use) {
    return transcoded(stream, {.ecsq = EcsqOptions{.use_importance = use}}).size();
  };
  CHECK(size(with, true) != size(with, false));
  CHECK(size(member(200, DType::kBF16), true) == size(with, false));
}

TEST_CASE("one latent tensor without V, and 100,000 tokens of one channel") {
  Meta meta = lossy_meta(500);
  meta.layers = {{.index = 3, .latent_dim = 36}};
  const LossyTile latent(meta, Kind::kL, 3);
  const std::string raw = written([&](Writer& writer) {
    writer.begin_member(meta, ids(500));
    writer.write_tile(latent.header, latent.bytes);
    writer.end_member();
  });
  const std::string coded = transcoded(raw, {.ecsq = EcsqOptions{}});
  CHECK(coded.size() < raw.size() / 2);
  CHECK(transcoded(coded, kRaw).size() >= raw.size() - 100);

  Meta narrow = lossy_meta(100'000, DType::kF16, 1, 1);
  narrow.layers = {{.index = 0, .geometry = {.kv_heads = 1, .k_dim = 1, .v_dim = 1}}};
  const std::string many = written([&](Writer& writer) {
    writer.begin_member(narrow, ids(100'000));
    for (const Kind kind : {Kind::kK, Kind::kV}) {
      const LossyTile tile(narrow, kind, 0);
      writer.write_tile(tile.header, tile.bytes);
    }
    writer.end_member();
  });
  for (const std::int64_t tokens : {1000, 1 << 15}) {
    const std::string small =
        transcoded(many, {.ecsq = EcsqOptions{.tokens_per_tile = tokens}, .threads = 2});
    CHECK(small.size() < many.size());
    CHECK(transcoded(small, kRaw).size() > many.size() - 1000);
  }
}

TEST_CASE("every truncation is refused; every flipped byte is, or decodes to numbers") {
  const std::vector<float> values = lossy_values(150, 12, 6);
  const TensorView view = view_of(values, 150);
  const auto qualities = encode_ecsq(view, {.step = 0.2, .exact = {0, 9}, .block = 12});
  REQUIRE(qualities);
  const Bytes* data = &qualities->front();
  std::vector<float> out(values.size());
  const auto refused = [&](const Bytes& bytes) {
    try {
      const ByteView one = bytes;
      decode_ecsq({&one, 1}, view, "test", std::as_writable_bytes(std::span(out)));
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kInput);
      return true;
    }
    return false;
  };
  CHECK_FALSE(refused(*data));
  for (std::size_t size = 0; size < data->size(); ++size) {
    CHECK(refused(Bytes(data->begin(), data->begin() + static_cast<std::ptrdiff_t>(size))));
  }
  for (std::size_t i = 0; i < data->size(); ++i) {
    for (const int bit : {1, 0x10, 0x80}) {
      Bytes damaged = *data;
      damaged[i] ^= static_cast<std::byte>(bit);
      if (refused(damaged)) continue;
      for (std::size_t v = 2 * 12; v < out.size(); ++v) {
        if (v / 12 != 9 && !std::isfinite(out[v])) FAIL("not finite behind byte " << i);
      }
    }
  }
  Bytes longer = *data;
  longer.push_back({});
  CHECK(refused(longer));
}

TEST_CASE("every byte of a file flipped is found") {
  const std::string coded = transcoded(member(40, DType::kBF16), {.ecsq = EcsqOptions{}});
  for (std::size_t i = 0; i < coded.size(); ++i) {
    std::string damaged = coded;
    damaged[i] = static_cast<char>(~damaged[i]);
    CHECK_THROWS_AS(transcoded(damaged, kRaw), Error);
  }
}
