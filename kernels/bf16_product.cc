#include "bf16_product.hh"

#include "bf16_product_targets.hh"
#include "cpu_features.hh"
#include "float_bits.hh"
#include "target_table.hh"

#include <bit>
#include <cstring>
#include <new>
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

constexpr std::align_val_t kAlignment{64};

std::uint16_t rounded(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return (bits & 0x7FFFFFFF) > 0x7F800000 ? 0x7FC0 : bf16_of_bits(bits);
}

}  // namespace

bool Bf16Matrix::fits(std::int64_t outputs, std::int64_t inputs) {
  const auto good = [](std::int64_t side) {
    return side > 0 && side % 32 == 0 && side <= kMaxSide;
  };
  return good(outputs) && good(inputs);
}

void Bf16Matrix::Free::operator()(std::uint16_t* weights) const {
  ::operator delete[](weights, kAlignment);
}

// Not cleared: that is as long as packing them.
Bf16Matrix::Bf16Matrix(std::int64_t outputs, std::int64_t inputs, bool paired)
    : outputs_(outputs), inputs_(inputs), paired_(paired) {
  require(fits(outputs, inputs), "Bf16Matrix: sides are not multiples of 32, or out of range");
  const auto size_bytes = static_cast<std::size_t>(outputs * inputs) * sizeof(std::uint16_t);
  weights_.reset(static_cast<std::uint16_t*>(::operator new[](size_bytes, kAlignment)));
}

void Bf16Matrix::pack(std::int64_t first, std::span<const float> rows) {
  require(first >= 0 && first < outputs_ && first % kPackOutputs == 0 &&
              std::ssize(rows) == kPackOutputs * inputs_,
          "Bf16Matrix: no such outputs");
  // Where they lie: their panel, and which half of it.
  const std::int64_t group = first / kPackOutputs, panel_count = panels();
  const std::int64_t panel = paired_ ? group % panel_count : group / 2;
  const std::int64_t half = paired_ ? group / panel_count : group % 2;
  std::uint16_t* to = weights_.get() + panel * kPanelOutputs * inputs_ + half * kStepValues / 2;
  constexpr std::int64_t kPairs = kStepInputs / 2;
  for (std::int64_t k = 0; k < inputs_; k += kStepInputs, to += kStepValues) {
    std::uint16_t step[kPackOutputs][kStepInputs];
    for (std::int64_t row = 0; row < kPackOutputs; ++row) {
      const float* from = rows.data() + row * inputs_ + k;
      for (std::int64_t j = 0; j < kStepInputs; ++j) {
        step[row][j] = rounded(from[j]);
      }
    }
    for (std::int64_t pair = 0; pair < kPairs; ++pair) {
      for (std::int64_t row = 0; row < kPackOutputs; ++row) {
        std::memcpy(to + 2 * (pair * kPackOutputs + row), &step[row][2 * pair],
                    2 * sizeof(std::uint16_t));
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
  const bool paired = is_paired(product.end);
  require(first_panel >= 0 && first_panel <= end_panel && end_panel <= weights.panels(),
          "bf16_product: no such panels");
  require(product.rows >= 0 && product.x_stride >= weights.inputs(),
          "bf16_product: rows of x overlap");
  require(product.out_stride >= (paired ? weights.outputs() / 2 : weights.outputs()),
          "bf16_product: rows of the result overlap");
  require(weights.paired() == paired && (!paired || product.bias == nullptr),
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
