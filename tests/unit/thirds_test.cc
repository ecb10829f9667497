// The codec `thirds`: refinements of `ecsq`, each of which makes the step a third.

#include "ecsq_samples.hh"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

using namespace kv;
using namespace kv::samples;
using format::Kind;

TEST_CASE("each refinement makes errors a third, near enough, of whatever the base has") {
  for (const double step : {0.5, 4.0, 30.0}) {
    CAPTURE(step);
    const std::vector<float> values = lossy_values(300, 20, 8);
    const TensorView view = view_of(values, 300);
    std::vector<std::int8_t> steps(300);
    for (std::size_t t = 0; t < 300; ++t) steps[t] = static_cast<std::int8_t>(t % 3) - 1;
    const auto all =
        encode_ecsq(view, {.step = step, .tokens = steps, .refinements = 4, .block = 20});
    REQUIRE(all);
    REQUIRE(all->size() == 5);
    double last = 0;
    for (std::size_t count = 1; count <= 5; ++count) {
      const std::vector<Bytes> some(all->begin(),
                                    all->begin() + static_cast<std::ptrdiff_t>(count));
      const double now = error(values, decoded(some, view));
      const double fine = step * std::pow(3.0, 1.0 - static_cast<double>(count));
      if (fine < 1) CHECK(now < 0.5 * fine * deviation(values));
      if (count > 1) CHECK(now < 1.01 * last);
      last = now;
    }
  }
}

TEST_CASE("damage to a refinement is found") {
  const std::vector<float> values = lossy_values(150, 12, 6);
  const TensorView view = view_of(values, 150);
  const auto all = encode_ecsq(view, {.step = 1, .refinements = 2, .block = 12});
  REQUIRE(all);
  int refused = 0, taken = 0;
  const auto attempt = [&](const std::vector<Bytes>& damaged) {
    try {
      decoded(damaged, view);
      ++taken;
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kInput);
      ++refused;
    }
  };
  for (std::size_t quality = 1; quality < 3; ++quality) {
    for (std::size_t i = 0; i < (*all)[quality].size(); ++i) {
      std::vector<Bytes> damaged = *all;
      damaged[quality][i] ^= std::byte{0x21};
      attempt(damaged);
      damaged = *all;
      damaged[quality].resize(i);
      attempt(damaged);
    }
  }
  CHECK(taken == 0);
  CHECK(refused > 100);
  attempt({all->front(), all->back()});  // what refines another tile
  CHECK(taken == 0);
  const std::vector<Bytes> many(6, all->back());
  attempt(many);
  CHECK(taken == 0);
}

TEST_CASE("a member without some refinements is the member that was coded with fewer") {
  const std::string raw = member(200, DType::kBF16);
  const auto coded_with = [&](int refinements) {
    return transcoded(raw, {.ecsq = EcsqOptions{.refinements = refinements, .tokens_per_tile = 90},
                            .threads = 2});
  };
  const std::string three = coded_with(3);
  CHECK(transcoded(three, {.quality = 1}) == coded_with(1));
  CHECK(transcoded(three, {.quality = 2}) == coded_with(2));
  CHECK(transcoded(three, {.quality = 9}) == transcoded(three, {}));
  const std::string base = transcoded(three, {.quality = 0});
  CHECK(base.find("\"quality_layers\":1") != std::string::npos);
  CHECK(transcoded(base, kRaw).size() == transcoded(three, kRaw).size());
  CHECK(transcoded(base, kRaw) != transcoded(three, kRaw));
  // Whole tiles can be cut out, parts of them cannot.
  CHECK(transcoded(transcoded(three, {.tokens = {90, 180}}), kRaw) ==
        transcoded(three, {.tokens = {90, 180}, .codec = &codec_by_name("raw")}));
  CHECK_THROWS_AS(transcoded(three, {.tokens = {0, 100}}), Error);
  // Coded anew, nothing refines it.
  CHECK(transcoded(three, {.ecsq = EcsqOptions{}}).find("\"quality_layers\":1") !=
        std::string::npos);
  CHECK(transcoded(transcoded(three, {.codec = &codec_by_name("planes")}), kRaw) ==
        transcoded(three, kRaw));
}

TEST_CASE("refined or not: zeros, subnormals beside values, rows that are not finite, one token") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const std::int64_t tokens : {1, 2, 70}) {
    CAPTURE(tokens);
    const std::size_t rows = static_cast<std::size_t>(tokens);
    std::vector<float> values = lossy_values(rows, 20, 3);
    for (std::size_t t = 0; t < rows; ++t) {
      values[20 * t + 3] = 0;
      values[20 * t + 4] = t % 2 == 0 ? 1e-41f : -1e-45f;
      values[20 * t + 5] = 2.5f;
    }
    if (tokens == 70) {
      values[20 * 9] = std::nanf("1");
      values[20 * 11 + 7] = infinity;
      values[20 * 69 + 19] = -infinity;
    }
    const TensorView view = view_of(values, tokens);
    const auto all = encode_ecsq(view, {.step = 2, .refinements = 3});
    REQUIRE(all);
    REQUIRE(all->size() == 4);
    const std::vector<float> back = decoded(*all, view);
    for (std::size_t t = 0; t < rows; ++t) {
      const bool exact = tokens == 70 && (t == 9 || t == 11 || t == 69);
      if (exact) {
        CHECK(std::memcmp(&back[20 * t], &values[20 * t], 20 * sizeof(float)) == 0);
        continue;
      }
      for (std::size_t c = 0; c < 20; ++c)
        CHECK(std::fabs(back[20 * t + c] - values[20 * t + c]) < 0.5f);
    }
  }
  const std::vector<float> zeros(64 * 20, 0.0f);
  const TensorView view = view_of(zeros, 64);
  const auto all = encode_ecsq(view, {.refinements = 4});
  REQUIRE(all);
  CHECK(decoded(*all, view) == zeros);
}

TEST_CASE("100,000 tokens refined twice, in tiles small and as large as can be") {
  Meta meta = lossy_meta(100'000, DType::kBF16, 1, 1);
  meta.layers.resize(1);
  const std::string raw = written([&](Writer& writer) {
    writer.begin_member(meta, ids(100'000));
    for (const Kind kind : {Kind::kK, Kind::kV}) {
      const LossyTile tile(meta, kind, 0);
      writer.write_tile(tile.header, tile.bytes);
    }
    writer.end_member();
  });
  for (const std::int64_t tokens : {1000, 1 << 15}) {
    const std::string coded = transcoded(
        raw, {.ecsq = EcsqOptions{.refinements = 2, .tokens_per_tile = tokens}, .threads = 2});
    CHECK(coded.size() < raw.size());
    const std::string back = transcoded(coded, kRaw);
    CHECK(back.size() > raw.size() - 1000);
    CHECK(back == transcoded(coded, {.codec = kRaw.codec, .threads = 3}));
  }
}
