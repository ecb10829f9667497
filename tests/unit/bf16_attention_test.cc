#include "kv/kernels/bf16_attention.hh"

#include "kv/kernels/float_bits.hh"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

namespace {

using kv::Bf16Attention;

std::uint16_t bits_of(float value) { return kv::bf16_of_bits(std::bit_cast<std::uint32_t>(value)); }

struct Shape {
  std::int64_t rows, group, k_dim, v_dim, tiles, window;
  float spread;  // of the queries: how far apart scores are
};

struct Inputs {
  Shape shape;
  std::vector<std::uint16_t> queries, keys, values;
  std::vector<std::int32_t> positions, key_positions;

  explicit Inputs(const Shape& given) : shape(given) {
    std::mt19937 random(static_cast<unsigned>(given.rows * 7 + given.tiles));
    std::normal_distribution<float> normal;
    const auto fill = [&](auto& to, std::int64_t count, float spread) {
      for (std::int64_t i = 0; i < count; ++i) to.push_back(bits_of(spread * normal(random)));
    };
    fill(queries, given.rows * given.group * given.k_dim, given.spread);
    fill(keys, given.tiles * 64 * given.k_dim, 1);
    fill(values, given.tiles * 64 * given.v_dim, 1);
    // Keys in any order; each row sees itself.
    for (std::int32_t i = 0; i < given.tiles * 64; ++i) key_positions.push_back(i);
    std::ranges::shuffle(key_positions, random);
    for (std::int64_t i = 0; i < given.rows; ++i) {
      positions.push_back(static_cast<std::int32_t>((i * 37 + 5) % (given.tiles * 64)));
    }
  }
};

struct State {
  std::vector<float> max, sum, output;

  explicit State(const Shape& shape)
      : max(static_cast<std::size_t>(shape.rows * shape.group), -1e30f),
        sum(max.size()),
        output(max.size() * static_cast<std::size_t>(shape.v_dim)) {}
};

// All tiles, `at_once` at a time, by `attend`.
template <typename F>
State run(const Inputs& inputs, bool masked, std::int64_t at_once, const F& attend) {
  const Shape& shape = inputs.shape;
  State state(shape);
  for (std::int64_t first = 0; first < shape.tiles; first += at_once) {
    attend(
        Bf16Attention{.queries = inputs.queries.data(),
                      .positions = inputs.positions.data(),
                      .rows = shape.rows,
                      .group = shape.group,
                      .k_dim = shape.k_dim,
                      .v_dim = shape.v_dim,
                      .keys = inputs.keys.data() + first * 64 * shape.k_dim,
                      .values = inputs.values.data() + first * 64 * shape.v_dim,
                      .tiles = std::min(at_once, shape.tiles - first),
                      .scale = 0.125f,
                      .key_positions = masked ? inputs.key_positions.data() + first * 64 : nullptr,
                      .window = shape.window,
                      .max = state.max.data(),
                      .sum = state.sum.data(),
                      .output = state.output.data()});
  }
  return state;
}

const Shape kShapes[] = {{1, 1, 64, 64, 1, 0, 1},    {1, 3, 64, 64, 5, 0, 1},
                         {5, 3, 64, 64, 4, 0, 4},    {6, 3, 32, 32, 7, 0, 1},
                         {11, 3, 64, 64, 3, 40, 4},  {32, 1, 128, 128, 5, 0, 1},
                         {33, 1, 96, 64, 2, 100, 1}, {49, 2, 64, 96, 9, 0, 20},
                         {16, 1, 64, 64, 4, 1, 1},   {17, 4, 256, 32, 6, 0, 0.1f}};

}  // namespace

TEST_CASE("the kernel gives the definition's attention") {
  if (!kv::bf16_attention_fits(64, 64)) {
    MESSAGE("no AMX: only the definition is here");
    return;
  }
  for (const Shape& shape : kShapes) {
    const Inputs inputs(shape);
    CAPTURE(shape.rows);
    CAPTURE(shape.tiles);
    for (const bool masked : {false, true}) {
      for (const std::int64_t at_once : {1, 3, 4}) {
        const State got = run(inputs, masked, at_once, kv::bf16_attention);
        const State want =
            run(inputs, masked, at_once, [](const auto& b) { kv::bf16_attention_scalar(b); });
        for (std::size_t i = 0; i < want.sum.size(); ++i) {
          CAPTURE(i);
          REQUIRE(want.sum[i] >= 0.99f);
          // Scores are sums of k_dim products of about spread.
          const double wrong = 1e-3;
          REQUIRE(std::abs(got.max[i] - want.max[i]) <= 1e-3f * shape.spread);
          REQUIRE(static_cast<double>(got.sum[i]) ==
                  doctest::Approx(static_cast<double>(want.sum[i])).epsilon(wrong));
          for (std::int64_t c = 0; c < shape.v_dim; ++c) {
            const auto at = i * static_cast<std::size_t>(shape.v_dim) + static_cast<std::size_t>(c);
            // Each probability is rounded to 2^-9 of itself; values are about 1.
            REQUIRE(std::abs(got.output[at] / got.sum[i] - want.output[at] / want.sum[i]) <= 8e-3f);
          }
        }
      }
    }
  }
}

TEST_CASE("the definition is softmax") {
  const Inputs inputs({9, 2, 32, 32, 3, 50, 3});
  const State got = run(inputs, true, 1, [](const auto& b) { kv::bf16_attention_scalar(b); });
  const auto value = [](std::uint16_t bits) {
    return static_cast<double>(std::bit_cast<float>(std::uint32_t{bits} << 16));
  };
  for (std::size_t i = 0; i < 18; ++i) {
    double sum = 0, output = 0;
    for (std::size_t key = 0; key < 192; ++key) {
      const int distance = inputs.positions[i / 2] - inputs.key_positions[key];
      if (distance < 0 || distance >= 50) continue;
      double score = 0;
      for (std::size_t c = 0; c < 32; ++c) {
        score += value(inputs.queries[i * 32 + c]) *
                 value(inputs.keys[key / 64 * 2048 + c / 2 * 128 + key % 64 * 2 + c % 2]);
      }
      const double probability = std::exp(0.125 * score);
      sum += probability;
      output += probability * value(inputs.values[key / 2 * 64 + 7 * 2 + key % 2]);
    }
    CHECK(static_cast<double>(got.output[i * 32 + 7] / got.sum[i]) ==
          doctest::Approx(output / sum).epsilon(1e-5));
  }
}

TEST_CASE("keys that are hidden have no part, whatever they are") {
  if (!kv::bf16_attention_fits(64, 64)) return;
  Inputs inputs({20, 3, 64, 64, 4, 0, 1});
  const State before = run(inputs, true, 4, kv::bf16_attention);
  // Infinite scores of a key that only the last positions see.
  const auto last = std::ranges::max_element(inputs.key_positions) - inputs.key_positions.begin();
  for (std::int64_t c = 0; c < 64; ++c) {
    inputs
        .keys[static_cast<std::size_t>(last / 64 * 64 * 64 + c / 2 * 128 + last % 64 * 2 + c % 2)] =
        0x7F80;
  }
  const State after = run(inputs, true, 4, kv::bf16_attention);
  CHECK(std::ranges::max(inputs.positions) < 255);
  CHECK(after.output == before.output);
  CHECK(after.sum == before.sum);
}

TEST_CASE("sizes that do not fit") {
  CHECK_FALSE(kv::bf16_attention_fits(48, 64));
  CHECK_FALSE(kv::bf16_attention_fits(64, 0));
  CHECK_THROWS_AS(kv::bf16_attention({.k_dim = 48, .v_dim = 64}), std::invalid_argument);
  CHECK_THROWS_AS(kv::bf16_attention({.k_dim = 64, .v_dim = 64, .tiles = 5}),
                  std::invalid_argument);
}
