#include "kv/diff/diff.hh"

#include "container_samples.hh"

#include <doctest/doctest.h>

#include <functional>

using namespace kv;
using samples::MemoryFile;

namespace {

using ValueFn = std::function<float(const format::TileHeader&, std::int64_t, std::int64_t)>;

// A member of `meta` in f32: value_of(tensor, token, channel), in tiles of so many tokens.
std::string cache_of(const Meta& meta, std::uint32_t tile_tokens, const ValueFn& value_of) {
  return samples::written([&](Writer& writer) {
    writer.begin_member(meta, samples::ids(meta.token_count));
    for (const auto& [layer, kind] : meta.tensors()) {
      for (std::int64_t first = 0; first < meta.token_count; first += tile_tokens) {
        format::TileHeader tile;
        tile.layer = layer;
        tile.kind = kind;
        tile.dtype = meta.dtype;
        tile.token_begin = static_cast<std::uint64_t>(first);
        tile.token_count = static_cast<std::uint32_t>(
            std::min<std::int64_t>(tile_tokens, meta.token_count - first));
        const std::int64_t width = meta.shape_of(tile).row_values();
        std::vector<float> values;
        for (std::int64_t t = 0; t < tile.token_count; ++t) {
          for (std::int64_t c = 0; c < width; ++c) values.push_back(value_of(tile, first + t, c));
        }
        writer.write_tile(tile, std::as_bytes(std::span(values)));
      }
    }
    writer.end_member();
  });
}

float plain(const format::TileHeader& tile, std::int64_t token, std::int64_t channel) {
  return static_cast<float>(1 + (token * 7 + channel * 3 + tile.layer) % 11);
}

const DiffRow& row_of(const std::vector<DiffRow>& rows, std::optional<std::uint32_t> layer,
                      format::Kind kind, std::int64_t index = 0) {
  for (const DiffRow& row : rows) {
    if (row.layer == layer && row.kind == kind && row.index == index) return row;
  }
  FAIL("no such row");
  return rows.front();
}

}  // namespace

TEST_CASE("one value is other: its layer, head, channel and token say so, and nothing else") {
  const Meta meta = samples::small_meta(25, DType::kF32);
  const MemoryFile a(cache_of(meta, 1 << 20, plain));
  // Other tiles, so that the rows have to be brought together.
  const MemoryFile b(cache_of(meta, 7, [](const auto& tile, auto token, auto channel) {
    const bool here =
        tile.layer == 1 && tile.kind == format::Kind::kV && token == 16 && channel == 3;
    return plain(tile, token, channel) + (here ? 4.0f : 0.0f);
  }));
  double layer2 = 0, head2 = 0, channel2 = 0, token2 = 0;
  for (const std::uint32_t layer : {0u, 1u}) {
    for (std::int64_t t = 0; t < 25; ++t) {
      for (std::int64_t c = 0; c < 4; ++c) {
        format::TileHeader tile;
        tile.layer = layer;
        const double square = std::pow(plain(tile, t, c), 2);
        if (layer == 1) layer2 += square;
        if (layer == 1 && c >= 2) head2 += square;
        if (layer == 1 && c == 3) channel2 += square;
        if (t == 16) token2 += square;
      }
    }
  }
  struct Case {
    DiffBy by;
    std::optional<std::uint32_t> layer;
    std::int64_t index;
    double a2;
    std::size_t rows;
  };
  for (const Case& c : {Case{DiffBy::kLayer, 1, 0, layer2, 4}, Case{DiffBy::kHead, 1, 1, head2, 8},
                        Case{DiffBy::kChannel, 1, 3, channel2, 2 * (6 + 4)},
                        Case{DiffBy::kToken, std::nullopt, 16, token2, 2 * 25}}) {
    const DiffResult result = diff(a.path(), b.path(), {.by = c.by});
    REQUIRE(result.members.size() == 1);
    const std::vector<DiffRow>& rows = result.members[0].rows;
    CHECK(rows.size() == c.rows);
    const DiffRow& row = row_of(rows, c.layer, format::Kind::kV, c.index);
    CHECK(row.sums.rel_l2() == doctest::Approx(4 / std::sqrt(c.a2)));
    CHECK(row.sums.most == 4);
    CHECK(row.sums.cosine() < 1);
    for (const DiffRow& other : rows) {
      if (&other == &row) continue;
      CHECK(other.sums.rel_l2() == 0);
      CHECK(other.sums.cosine() == doctest::Approx(1));
    }
    CHECK(row_of(result.members[0].totals, std::nullopt, format::Kind::kK).sums.rel_l2() == 0);
  }
}

TEST_CASE("checks name the first place") {
  const Meta meta = samples::small_meta(12, DType::kF32);
  const MemoryFile a(cache_of(meta, 5, plain));
  const MemoryFile b(cache_of(meta, 5, [](const auto& tile, auto token, auto channel) {
    return plain(tile, token, channel) * (tile.layer == 1 && token > 8 ? 1.5f : 1.0f);
  }));
  CHECK(diff(a.path(), b.path(), {.max_rel_l2 = 0.6, .max_token = 0.6}).offence.empty());
  CHECK(diff(a.path(), b.path(), {.max_token = 0.4}).offence ==
        "layer 1 K token 9: relative L2 0.5 is over 0.4");
  CHECK(diff(a.path(), b.path(), {.max_rel_l2 = 0.01}).offence.starts_with("layer 1 K: relative"));
  const DiffRow row = diff(a.path(), b.path(), {.bound = 0.4}).members[0].rows[2];
  CHECK(row.over == 3);
  CHECK(row.tokens == 12);
}

TEST_CASE("zeros, and values that are no numbers") {
  const Meta meta = samples::small_meta(3, DType::kF32);
  const auto all = [](float value) { return [=](const auto&, auto, auto) { return value; }; };
  const MemoryFile zero(cache_of(meta, 9, all(0))), one(cache_of(meta, 9, all(1)));
  const MemoryFile nan(cache_of(meta, 9, all(std::nanf(""))));
  const auto first = [&](const MemoryFile& a, const MemoryFile& b) {
    return diff(a.path(), b.path(), {}).members[0].rows[0].sums;
  };
  CHECK(first(zero, zero).rel_l2() == 0);
  CHECK(first(zero, zero).cosine() == 1);
  CHECK(std::isinf(first(zero, one).rel_l2()));
  CHECK(first(one, zero).rel_l2() == 1);
  CHECK(std::isnan(first(one, nan).rel_l2()));
  CHECK(std::isnan(first(one, nan).most));
  CHECK(first(nan, nan).rel_l2() == 0);
  CHECK(first(nan, nan).most == 0);
  CHECK(diff(nan.path(), nan.path(), {.max_rel_l2 = 0, .max_token = 0}).offence.empty());
  CHECK_FALSE(diff(one.path(), nan.path(), {.max_token = 9}).offence.empty());
}

TEST_CASE("caches that do not hold the same are refused") {
  const Meta meta = samples::small_meta(12, DType::kF32);
  const MemoryFile a(cache_of(meta, 5, plain));
  const auto refused = [&](const Meta& other, const DiffOptions& options = {}) {
    const MemoryFile b(cache_of(other, 5, plain));
    try {
      diff(a.path(), b.path(), options);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kInput);
      return true;
    }
    return false;
  };
  CHECK_FALSE(refused(meta));
  Meta other = meta;
  other.model.fingerprint[0] = 'f';
  CHECK(refused(other));
  CHECK_FALSE(refused(other, {.across_models = true}));
  other.layers[1].geometry.kv_heads = 1;
  CHECK(refused(other, {.across_models = true}));
  Meta longer = meta;
  longer.token_count = 13;
  CHECK(refused(longer));
  Meta fewer = meta;
  fewer.layers.pop_back();
  CHECK(refused(fewer));
  Meta rotated = meta;
  rotated.rope_applied = true;
  CHECK(refused(rotated));
}

TEST_CASE("statistics: what is constant in a channel takes no bits there") {
  const Meta meta = samples::small_meta(40, DType::kF32);
  // K: each channel a constant. V: a channel is +-1 in turn, the others 1, so that the largest
  // is 1.
  const MemoryFile file(cache_of(meta, 15, [](const auto& tile, auto token, auto channel) {
    if (tile.kind == format::Kind::kK) return static_cast<float>(channel + 1);
    return channel == 0 && token % 2 == 1 ? -1.0f : 1.0f;
  }));
  const std::vector<StatisticsRow> rows = statistics(file.path(), 1).at(0);
  REQUIRE(rows.size() == 4);
  CHECK(rows[0].variance == doctest::Approx(0));
  CHECK(rows[0].channel_bits == doctest::Approx(0));
  CHECK(rows[0].bits == doctest::Approx(std::log2(6)));
  // One channel of four has variance 1; its deltas are 0 and -2, 5 of 9 times the latter.
  CHECK(rows[1].variance == doctest::Approx(0.25));
  CHECK(rows[1].delta_variance == doctest::Approx(4 * (5.0 / 9) * (4.0 / 9) / 4));
  CHECK(rows[1].channel_bits == doctest::Approx(0.25));
  CHECK(rows[1].bits == doctest::Approx(-0.875 * std::log2(0.875) - 0.125 * std::log2(0.125)));
}
