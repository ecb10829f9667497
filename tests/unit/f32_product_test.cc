#include "kv/kernels/f32_product.hh"

#include "kv/kernels/vector_target.hh"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <stdexcept>
#include <vector>

namespace {

using kv::F32End;
using kv::F32Matrix;
using kv::F32Product;

struct Shape {
  std::int64_t rows, outputs, inputs, spare;  // spare of both strides
};

// Values beyond a row's last are NaN: they must not be used.
struct Inputs {
  Shape shape;
  std::vector<float> weights, x, bias, before;
  F32Matrix matrix;

  explicit Inputs(const Shape& given) : shape(given), matrix(given.outputs, given.inputs) {
    std::mt19937 random(static_cast<unsigned>(given.rows * 31 + given.outputs + given.inputs));
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& values, std::int64_t count) {
      for (std::int64_t i = 0; i < count; ++i) values.push_back(normal(random));
    };
    fill(weights, given.outputs * given.inputs);
    fill(bias, given.outputs);
    fill(before, given.rows * out_stride());
    for (std::int64_t row = 0; row < given.rows; ++row) {
      fill(x, given.inputs);
      x.insert(x.end(), static_cast<std::size_t>(given.spare),
               std::numeric_limits<float>::quiet_NaN());
    }
    for (std::int64_t first = 0; first < given.outputs; first += F32Matrix::kPackOutputs) {
      const std::int64_t count = std::min(F32Matrix::kPackOutputs, given.outputs - first);
      matrix.pack(first,
                  std::span(weights).subspan(static_cast<std::size_t>(first * given.inputs),
                                             static_cast<std::size_t>(count * given.inputs)));
    }
  }
  std::int64_t x_stride() const { return shape.inputs + shape.spare; }
  std::int64_t out_stride() const { return shape.outputs + shape.spare; }

  F32Product product(F32End end, std::vector<float>& out) const {
    out = before;
    return {.weights = matrix,
            .x = x.data(),
            .x_stride = x_stride(),
            .rows = shape.rows,
            .bias = bias.data(),
            .end = end,
            .out = out.data(),
            .out_stride = out_stride()};
  }

  // Of the sum of one row and output, and how far it may be from it.
  std::pair<double, double> wanted(F32End end, std::int64_t row, std::int64_t output) const {
    double sum = bias[static_cast<std::size_t>(output)];
    if (end == F32End::kAdd) sum += before[static_cast<std::size_t>(row * out_stride() + output)];
    double magnitudes = std::abs(sum);
    for (std::int64_t i = 0; i < shape.inputs; ++i) {
      const double product =
          static_cast<double>(x[static_cast<std::size_t>(row * x_stride() + i)]) *
          static_cast<double>(weights[static_cast<std::size_t>(output * shape.inputs + i)]);
      sum += product;
      magnitudes += std::abs(product);
    }
    return {sum, magnitudes * std::ldexp(1.0, -24) * (2.0 + std::sqrt(double(shape.inputs)))};
  }
};

const std::vector<Shape> kShapes = {{1, 1, 1, 0},     {1, 16, 5, 3},     {1, 130, 576, 0},
                                    {2, 97, 48, 1},   {7, 33, 641, 2},   {13, 64, 320, 0},
                                    {25, 47, 100, 5}, {150, 80, 321, 0}, {301, 31, 1000, 0}};

void check_sums(const Inputs& inputs, F32End end, const std::vector<float>& out) {
  for (std::int64_t row = 0; row < inputs.shape.rows; ++row) {
    for (std::int64_t i = 0; i < inputs.out_stride(); ++i) {
      const auto at = static_cast<std::size_t>(row * inputs.out_stride() + i);
      if (i >= inputs.shape.outputs) {
        CHECK(out[at] == inputs.before[at]);
      } else {
        const auto wanted = inputs.wanted(end, row, i);
        CHECK(std::abs(out[at] - wanted.first) <= wanted.second);
      }
    }
  }
}

}  // namespace

TEST_CASE("sums are right, on every target") {
  for (const kv::VectorTarget target : kv::vector_targets()) {
    kv::set_vector_target(target);
    CAPTURE(kv::vector_target_name(target));
    for (const Shape& shape : kShapes) {
      CAPTURE(shape.rows);
      CAPTURE(shape.outputs);
      CAPTURE(shape.inputs);
      const Inputs inputs(shape);
      for (const F32End end : {F32End::kStore, F32End::kAdd}) {
        std::vector<float> out;
        f32_product(inputs.product(end, out), 0, inputs.matrix.panels());
        check_sums(inputs, end, out);
      }
    }
  }
  kv::set_vector_target(kv::vector_targets().front());
}

TEST_CASE("a row's bits depend neither on other rows nor on how panels are shared") {
  for (const kv::VectorTarget target : kv::vector_targets()) {
    kv::set_vector_target(target);
    for (const Shape& shape : kShapes) {
      const Inputs inputs(shape);
      for (const F32End end : {F32End::kStore, F32End::kAdd}) {
        std::vector<float> whole, parts;
        f32_product(inputs.product(end, whole), 0, inputs.matrix.panels());
        F32Product product = inputs.product(end, parts);
        const std::int64_t all = product.rows;
        for (std::int64_t row = 0, step = 1; row < all; row += step, step = step % 5 + 1) {
          product.rows = std::min(step, all - row);
          product.x = inputs.x.data() + row * product.x_stride;
          product.out = parts.data() + row * product.out_stride;
          for (std::int64_t panel = 0; panel < inputs.matrix.panels(); ++panel) {
            f32_product(product, panel, panel + 1);
          }
        }
        CHECK(parts == whole);
      }
    }
  }
  kv::set_vector_target(kv::vector_targets().front());
}

TEST_CASE("what does not fit is refused") {
  CHECK_THROWS_AS(F32Matrix(0, 1), std::invalid_argument);
  CHECK_THROWS_AS(F32Matrix(1, F32Matrix::kMaxSide + 1), std::invalid_argument);
  F32Matrix matrix(20, 3);
  CHECK_THROWS_AS(matrix.pack(8, std::vector<float>(48)), std::invalid_argument);
  CHECK_THROWS_AS(matrix.pack(16, std::vector<float>(48)), std::invalid_argument);
  CHECK_THROWS_AS(matrix.pack(32, std::vector<float>(12)), std::invalid_argument);
  const Inputs inputs({2, 20, 3, 0});
  std::vector<float> out;
  const F32Product product = inputs.product(F32End::kStore, out);
  CHECK_THROWS_AS(f32_product(product, 0, 3), std::invalid_argument);
  CHECK_THROWS_AS(f32_product(product, 2, 1), std::invalid_argument);
  const auto refuses = [&](auto change) {
    F32Product changed = product;
    change(changed);
    CHECK_THROWS_AS(f32_product(changed, 0, 2), std::invalid_argument);
  };
  refuses([](F32Product& changed) { changed.x_stride = 2; });
  refuses([](F32Product& changed) { changed.out_stride = 19; });
}
