#include "bf16_product.hh"

#include "bf16_product_targets.hh"
#include "cpu_features.hh"
#include "target_table.hh"

#include <algorithm>
#include <memory>
#include <stdexcept>

namespace kv {
namespace {

using Table = TargetTable<ProductTarget, ProductFunction>;

// Fastest first.
constexpr Table::Entry kTable[] = {
#if defined(__x86_64__)
    {ProductTarget::kAmx, "amx", product_amx, cpu_has_amx_bf16},
#endif
    {ProductTarget::kScalar, "scalar", product_scalar, [] { return true; }},
};

Table& table() {
  static Table table("bf16_product", kTable);
  return table;
}

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

}  // namespace

bool Bf16Matrix::fits(std::int64_t outputs, std::int64_t inputs) {
  const auto good = [](std::int64_t side) {
    return side > 0 && side % 32 == 0 && side <= kMaxSide;
  };
  return good(outputs) && good(inputs);
}

Bf16Matrix::Bf16Matrix(std::span<const std::uint16_t> rows, std::int64_t outputs,
                       std::int64_t inputs, bool paired)
    : outputs_(outputs), inputs_(inputs), paired_(paired) {
  require(fits(outputs, inputs), "Bf16Matrix: sides are not multiples of 32, or out of range");
  require(std::ssize(rows) == outputs * inputs, "Bf16Matrix: not outputs x inputs weights");
  storage_.resize(rows.size() + 31);
  void* at = storage_.data();
  std::size_t room = 2 * storage_.size();
  data_ = static_cast<std::uint16_t*>(std::align(64, room - 62, at, room));
  for (std::int64_t output = 0; output < outputs; ++output) {
    // Where it lies: its panel, and its place among the panel's 32.
    const std::int64_t half = outputs / 2, i = paired ? output % half : output;
    const std::int64_t panel = paired ? i / 16 : i / kPanelOutputs;
    const std::int64_t place = paired ? output / half * 16 + i % 16 : i % kPanelOutputs;
    const std::uint16_t* from = rows.data() + output * inputs;
    std::uint16_t* to = data_ + panel * kPanelOutputs * inputs + place / 16 * 512 + place % 16 * 2;
    for (std::int64_t k = 0; k < inputs; k += kStepInputs, to += kStepValues) {
      for (std::int64_t j = 0; j < kStepInputs; j += 2) {
        to[j * 16] = from[k + j];
        to[j * 16 + 1] = from[k + j + 1];
      }
    }
  }
}

const char* product_target_name(ProductTarget target) { return table().name(target); }

std::span<const ProductTarget> product_targets() { return table().here(); }

ProductTarget product_target() { return table().selected().target; }

void set_product_target(ProductTarget target) { table().select(target); }

ProductTarget bf16_product(const Bf16Product& product, std::int64_t first_panel,
                           std::int64_t end_panel) {
  const Bf16Matrix& weights = product.weights;
  const bool silu = product.end == ProductEnd::kSiluMul;
  require(first_panel >= 0 && first_panel <= end_panel && end_panel <= weights.panels(),
          "bf16_product: no such panels");
  require(product.rows >= 0 && product.x_stride >= weights.inputs(),
          "bf16_product: rows of x overlap");
  require(product.out_stride >= (silu ? weights.outputs() / 2 : weights.outputs()),
          "bf16_product: rows of the result overlap");
  require(weights.paired() == silu && (!silu || product.bias == nullptr),
          "bf16_product: the matrix is paired for another end");
  const ProductJob job{.panels = weights.data(),
                       .steps = weights.inputs() / Bf16Matrix::kStepInputs,
                       .x = product.x,
                       .x_stride = product.x_stride,
                       .rows = product.rows,
                       .bias = product.bias,
                       .end = product.end,
                       .out = product.out,
                       .out_stride = product.out_stride,
                       .first_panel = first_panel,
                       .end_panel = end_panel};
  return table().selected().run(job);
}

}  // namespace kv
