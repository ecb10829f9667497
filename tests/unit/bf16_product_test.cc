#include "kv/kernels/bf16_product.hh"

#include "kv/kernels/float_bits.hh"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using kv::Bf16Matrix;
using kv::Bf16Product;
using kv::ProductEnd;
using kv::ProductTarget;

std::uint16_t bits_of(float value) { return kv::bf16_of_bits(std::bit_cast<std::uint32_t>(value)); }
float value_of(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

constexpr std::uint16_t kNan = 0x7FC0;
constexpr float kUntouched = -12345.0f;

struct Shape {
  std::int64_t rows, outputs, inputs, spare;  // spare of both strides
};

// Rows beyond the last, and values beyond a row's last, are NaN: they must not be used.
struct Inputs {
  Shape shape;
  std::vector<std::uint16_t> weights, x;
  std::vector<float> bias;

  explicit Inputs(const Shape& given) : shape(given) {
    std::mt19937 random(static_cast<unsigned>(given.rows * 31 + given.outputs + given.inputs));
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < given.outputs * given.inputs; ++i) {
      weights.push_back(bits_of(normal(random) / std::sqrt(static_cast<float>(given.inputs))));
    }
    x.assign(static_cast<std::size_t>((given.rows + 16) * stride()), kNan);
    for (std::int64_t row = 0; row < given.rows; ++row) {
      for (std::int64_t i = 0; i < given.inputs; ++i) {
        x[static_cast<std::size_t>(row * stride() + i)] = bits_of(4 * normal(random));
      }
    }
    for (std::int64_t i = 0; i < given.outputs; ++i) bias.push_back(normal(random));
  }
  std::int64_t stride() const { return shape.inputs + shape.spare; }
  // Of the products of one row and output.
  double sum(std::int64_t row, std::int64_t output, bool magnitudes) const {
    double sum = 0;
    for (std::int64_t i = 0; i < shape.inputs; ++i) {
      const double product =
          static_cast<double>(value_of(x[static_cast<std::size_t>(row * stride() + i)])) *
          static_cast<double>(
              value_of(weights[static_cast<std::size_t>(output * shape.inputs + i)]));
      sum += magnitudes ? std::abs(product) : product;
    }
    return sum;
  }
};

Bf16Matrix packed(std::span<const std::uint16_t> weights, std::int64_t outputs, std::int64_t inputs,
                  bool paired = false) {
  Bf16Matrix matrix(outputs, inputs, paired);
  std::vector<float> rows;
  for (const std::uint16_t bits : weights) rows.push_back(value_of(bits));
  constexpr std::int64_t kRows = Bf16Matrix::kPackOutputs;
  for (std::int64_t first = outputs - kRows; first >= 0; first -= kRows) {
    matrix.pack(first, std::span(rows).subspan(static_cast<std::size_t>(first * inputs),
                                               static_cast<std::size_t>(kRows * inputs)));
  }
  return matrix;
}

// As floats, whatever the end; a row is out_stride wide.
std::vector<float> run(const Inputs& inputs, const Bf16Matrix& matrix, ProductEnd end, bool bias,
                       std::int64_t first, std::int64_t last) {
  const std::int64_t stride = inputs.shape.outputs + inputs.shape.spare;
  const auto size = static_cast<std::size_t>((inputs.shape.rows + 1) * stride);
  std::vector<float> floats(size, kUntouched);
  std::vector<std::uint16_t> halves(size, bits_of(kUntouched));
  const bool f32 = end == ProductEnd::kStoreF32 || end == ProductEnd::kAdd;
  const ProductTarget target =
      kv::bf16_product({.weights = matrix,
                        .x = inputs.x.data(),
                        .x_stride = inputs.stride(),
                        .rows = inputs.shape.rows,
                        .bias = bias ? inputs.bias.data() : nullptr,
                        .end = end,
                        .out = f32 ? static_cast<void*>(floats.data()) : halves.data(),
                        .out_stride = stride},
                       first, last);
  CHECK(target == kv::product_target());
  if (!f32) {
    for (std::size_t i = 0; i < size; ++i) floats[i] = value_of(halves[i]);
  }
  return floats;
}

const Shape kShapes[] = {{0, 32, 32, 0},     {1, 32, 32, 0},   {2, 64, 96, 5},   {3, 96, 64, 0},
                         {5, 64, 576, 0},    {11, 64, 64, 32}, {12, 32, 64, 0},  {13, 32, 64, 1},
                         {15, 64, 32, 0},    {16, 96, 128, 0}, {17, 128, 96, 7}, {31, 64, 64, 0},
                         {32, 192, 64, 0},   {33, 64, 160, 0}, {47, 32, 32, 0},  {64, 64, 1536, 0},
                         {97, 320, 288, 16}, {49, 64, 64, 0},  {80, 32, 2048, 0}};

void check_ends(const Inputs& inputs) {
  const Shape& shape = inputs.shape;
  const Bf16Matrix matrix = packed(inputs.weights, shape.outputs, shape.inputs);
  const std::int64_t stride = shape.outputs + shape.spare;
  for (const ProductEnd end : {ProductEnd::kStore, ProductEnd::kStoreF32, ProductEnd::kAdd}) {
    for (const bool bias : {false, true}) {
      const auto got = run(inputs, matrix, end, bias, 0, matrix.panels());
      for (std::int64_t row = 0; row <= shape.rows; ++row) {
        for (std::int64_t i = 0; i < stride; ++i) {
          const auto value = static_cast<double>(got[static_cast<std::size_t>(row * stride + i)]);
          CAPTURE(row);
          CAPTURE(i);
          if (row == shape.rows || i >= shape.outputs) {
            REQUIRE(value == static_cast<double>(end == ProductEnd::kStore
                                                     ? value_of(bits_of(kUntouched))
                                                     : kUntouched));
            continue;
          }
          double want = inputs.sum(row, i, false);
          if (bias) want += static_cast<double>(inputs.bias[static_cast<std::size_t>(i)]);
          if (end == ProductEnd::kAdd) want += static_cast<double>(kUntouched);
          const double rounding = std::ldexp(std::abs(want), end == ProductEnd::kStore ? -8 : -23);
          REQUIRE(std::abs(value - want) <=
                  rounding + std::ldexp(inputs.sum(row, i, true) + 4, -18));
        }
      }
    }
  }
}

void check_silu(const Inputs& inputs) {
  const Shape& shape = inputs.shape;
  const Bf16Matrix matrix = packed(inputs.weights, shape.outputs, shape.inputs, true);
  const std::int64_t stride = shape.outputs + shape.spare, half = shape.outputs / 2;
  const auto got = run(inputs, matrix, ProductEnd::kSiluMul, false, 0, matrix.panels());
  for (std::int64_t row = 0; row <= shape.rows; ++row) {
    for (std::int64_t i = 0; i < stride; ++i) {
      const auto value = static_cast<double>(got[static_cast<std::size_t>(row * stride + i)]);
      CAPTURE(row);
      CAPTURE(i);
      if (row == shape.rows || i >= half) {
        REQUIRE(value == static_cast<double>(value_of(bits_of(kUntouched))));
        continue;
      }
      const double g = inputs.sum(row, i, false), u = inputs.sum(row, half + i, false);
      const double want = g / (1 + std::exp(-g)) * u;
      const double wrong_g = std::ldexp(inputs.sum(row, i, true), -18);
      const double wrong_u = std::ldexp(inputs.sum(row, half + i, true), -18);
      REQUIRE(std::abs(value - want) <= std::abs(want) * (1.0 / 256 + 2e-4) +
                                            std::abs(g) * wrong_u + 1.2 * std::abs(u) * wrong_g +
                                            1e-30);
    }
  }
}

}  // namespace

TEST_CASE("every target gives the definition's products") {
  for (const ProductTarget target : kv::product_targets()) {
    kv::set_product_target(target);
    CAPTURE(std::string(kv::product_target_name(target)));
    for (const Shape& shape : kShapes) {
      CAPTURE(shape.rows);
      CAPTURE(shape.outputs);
      CAPTURE(shape.inputs);
      const Inputs inputs(shape);
      check_ends(inputs);
      check_silu(inputs);
    }
  }
  kv::set_product_target(kv::product_targets().front());
}

TEST_CASE("parts of the panels are parts of the product") {
  for (const ProductTarget target : kv::product_targets()) {
    kv::set_product_target(target);
    const Inputs inputs({37, 160, 96, 3});
    const Bf16Matrix matrix = packed(inputs.weights, 160, 96);
    const auto whole = run(inputs, matrix, ProductEnd::kStoreF32, true, 0, 5);
    const auto part = run(inputs, matrix, ProductEnd::kStoreF32, true, 1, 3);
    for (std::size_t i = 0; i < whole.size(); ++i) {
      const std::size_t column = i % 163;
      CHECK(part[i] == (column >= 32 && column < 96 ? whole[i] : kUntouched));
    }
    const auto none = run(inputs, matrix, ProductEnd::kStoreF32, true, 2, 2);
    for (const float value : none) CHECK(value == kUntouched);
  }
  kv::set_product_target(kv::product_targets().front());
}

TEST_CASE("a row that is not finite keeps to itself") {
  for (const ProductTarget target : kv::product_targets()) {
    kv::set_product_target(target);
    for (const std::int64_t rows : {2, 20, 40}) {
      Inputs inputs({rows, 64, 64, 0});
      const Bf16Matrix matrix = packed(inputs.weights, 64, 64);
      const auto before = run(inputs, matrix, ProductEnd::kStoreF32, false, 0, 2);
      inputs.x[64 + 7] = kNan;
      const auto after = run(inputs, matrix, ProductEnd::kStoreF32, false, 0, 2);
      for (std::size_t i = 0; i < before.size(); ++i) {
        if (i / 64 == 1) {
          CHECK(std::isnan(after[i]));
        } else {
          CHECK(after[i] == before[i]);
        }
      }
    }
  }
  kv::set_product_target(kv::product_targets().front());
}

TEST_CASE("silu far from zero") {
  for (const ProductTarget target : kv::product_targets()) {
    kv::set_product_target(target);
    // One input: the gate is x, the other half 1.
    std::vector<std::uint16_t> weights(32 * 32, 0), x(32 * 8, 0);
    for (std::size_t i = 0; i < 32; ++i) weights[32 * i] = bits_of(1);
    const float gates[] = {0, -0.0f, 1e-30f, -20, -100, -1e30f, 100, 1e15f};
    for (std::size_t i = 0; i < 8; ++i) x[32 * i] = bits_of(gates[i]);
    const Bf16Matrix matrix = packed(weights, 32, 32, true);
    std::vector<std::uint16_t> out(16 * 8);
    kv::bf16_product({.weights = matrix,
                      .x = x.data(),
                      .x_stride = 32,
                      .rows = 8,
                      .end = ProductEnd::kSiluMul,
                      .out = out.data(),
                      .out_stride = 16},
                     0, 1);
    for (std::size_t i = 0; i < 8; ++i) {
      const auto g = static_cast<double>(value_of(x[32 * i]));
      const double want = g / (1 + std::exp(-g)) * g;
      CAPTURE(g);
      CHECK(static_cast<double>(value_of(out[16 * i])) == doctest::Approx(want).epsilon(0.005));
    }
  }
  kv::set_product_target(kv::product_targets().front());
}

TEST_CASE("weights are rounded to nearest, ties to even") {
  std::vector<float> rows(16 * 32);
  const std::pair<float, std::uint16_t> cases[] = {{1, 0x3F80},
                                                   {0x1.01p0F, 0x3F80},
                                                   {0x1.03p0F, 0x3F82},
                                                   {0x1.010002p0F, 0x3F81},
                                                   {-0.0F, 0x8000},
                                                   {0x1.fffffep127F, 0x7F80},
                                                   {INFINITY, 0x7F80},
                                                   {NAN, kNan},
                                                   {std::bit_cast<float>(0x7FFFFFFFu), kNan}};
  for (std::size_t i = 0; i < std::size(cases); ++i) rows[3 * 32 + i] = cases[i].first;
  Bf16Matrix matrix(32, 32);
  matrix.pack(0, std::vector<float>(16 * 32));
  matrix.pack(16, rows);
  for (std::size_t i = 0; i < std::size(cases); ++i) {
    CAPTURE(i);
    CHECK(matrix.data()[512 + i / 2 * 32 + 3 * 2 + i % 2] == cases[i].second);
  }
}

TEST_CASE("sizes that do not fit") {
  const std::vector<std::uint16_t> weights(64 * 64);
  CHECK(Bf16Matrix::fits(64, 32));
  CHECK_FALSE(Bf16Matrix::fits(48, 64));
  CHECK_FALSE(Bf16Matrix::fits(64, 0));
  CHECK_FALSE(Bf16Matrix::fits(std::int64_t{1} << 40, 32));
  CHECK_THROWS_AS(Bf16Matrix(48, 64), std::invalid_argument);
  const std::vector<float> rows(16 * 64);
  Bf16Matrix unpacked(64, 64);
  CHECK_NOTHROW(unpacked.pack(48, rows));
  CHECK_THROWS_AS(unpacked.pack(8, rows), std::invalid_argument);
  CHECK_THROWS_AS(unpacked.pack(64, rows), std::invalid_argument);
  CHECK_THROWS_AS(unpacked.pack(-16, rows), std::invalid_argument);
  CHECK_THROWS_AS(unpacked.pack(0, std::span(rows).first(15 * 64)), std::invalid_argument);
  const Bf16Matrix plain = packed(weights, 64, 64), paired = packed(weights, 64, 64, true);
  std::vector<float> out(64);
  const auto product = [&](const Bf16Matrix& matrix, ProductEnd end, std::int64_t x_stride,
                           std::int64_t out_stride) {
    return Bf16Product{.weights = matrix,
                       .x = weights.data(),
                       .x_stride = x_stride,
                       .rows = 1,
                       .end = end,
                       .out = out.data(),
                       .out_stride = out_stride};
  };
  const auto fine = product(plain, ProductEnd::kStore, 64, 64);
  CHECK_NOTHROW(kv::bf16_product(fine, 0, 2));
  CHECK_THROWS_AS(kv::bf16_product(fine, 0, 3), std::invalid_argument);
  CHECK_THROWS_AS(kv::bf16_product(fine, -1, 1), std::invalid_argument);
  CHECK_THROWS_AS(kv::bf16_product(fine, 2, 1), std::invalid_argument);
  for (const auto& bad :
       {product(plain, ProductEnd::kStore, 63, 64), product(plain, ProductEnd::kStore, 64, 63),
        product(paired, ProductEnd::kStore, 64, 64), product(plain, ProductEnd::kSiluMul, 64, 64),
        product(paired, ProductEnd::kSiluMul, 64, 31)}) {
    CHECK_THROWS_AS(kv::bf16_product(bad, 0, 2), std::invalid_argument);
  }
}
