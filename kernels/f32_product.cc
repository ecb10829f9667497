#include "f32_product.hh"

#include "vector_target.hh"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kv/kernels/f32_product.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <new>
#include <stdexcept>

HWY_BEFORE_NAMESPACE();
namespace kv::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, F32Matrix::kPanelOutputs>;
using Float = hn::Vec<Floats>;

constexpr std::int64_t kPanel = F32Matrix::kPanelOutputs;
constexpr std::int64_t kLanes = static_cast<std::int64_t>(hn::MaxLanes(Floats()));
constexpr std::int64_t kVectors = kPanel / kLanes;                     // of a panel
constexpr std::int64_t kRegisters = HWY_TARGET <= HWY_AVX3 ? 24 : 12;  // for sums
// Inputs whose weights of a panel stay in the first cache while rows go by, and bytes of rows that
// stay in the second one while panels do.
constexpr std::int64_t kBlockInputs = 320, kChunkBytes = 192 * 1024;

// kRows rows of x by `count` inputs of kPanels panels. Their sum is made from zero and then added
// to what is in out: small products would be lost in a residual stream's largest values one by one.
template <int kRows, int kPanels>
HWY_INLINE void tile(const float* HWY_RESTRICT x, std::int64_t x_stride,
                     const float* HWY_RESTRICT weights, std::int64_t panel_size, std::int64_t count,
                     float* HWY_RESTRICT out, std::int64_t out_stride) {
  const Floats floats;
  Float sums[kRows][kPanels * kVectors];
  for (int row = 0; row < kRows; ++row) {
    for (int i = 0; i < kPanels * kVectors; ++i) {
      sums[row][i] = hn::Zero(floats);
    }
  }
  for (std::int64_t input = 0; input < count; ++input) {
    Float weight[kPanels * kVectors];
    for (int panel = 0; panel < kPanels; ++panel) {
      for (int i = 0; i < kVectors; ++i) {
        weight[panel * kVectors + i] =
            hn::Load(floats, weights + panel * panel_size + input * kPanel + i * kLanes);
      }
    }
    for (int row = 0; row < kRows; ++row) {
      const Float value = hn::Set(floats, x[row * x_stride + input]);
      for (int i = 0; i < kPanels * kVectors; ++i) {
        sums[row][i] = hn::MulAdd(value, weight[i], sums[row][i]);
      }
    }
  }
  for (int row = 0; row < kRows; ++row) {
    for (int i = 0; i < kPanels * kVectors; ++i) {
      float* const to = out + row * out_stride + i * kLanes;
      hn::StoreU(hn::Add(hn::LoadU(floats, to), sums[row][i]), floats, to);
    }
  }
}

// As many rows at a time as there are registers for, then the rest of them at once.
template <int kRows, int kPanels>
HWY_INLINE void tiles(std::int64_t rows, const float* x, std::int64_t x_stride,
                      const float* weights, std::int64_t panel_size, std::int64_t count, float* out,
                      std::int64_t out_stride) {
  for (; rows >= kRows; rows -= kRows, x += kRows * x_stride, out += kRows * out_stride) {
    tile<kRows, kPanels>(x, x_stride, weights, panel_size, count, out, out_stride);
  }
  if constexpr (kRows > 1) {
    if (rows > 0) {
      tiles<kRows - 1, kPanels>(rows, x, x_stride, weights, panel_size, count, out, out_stride);
    }
  }
}

// All inputs of kPanels panels that begin with `panel`. Sums of a panel that is not whole are kept
// aside, a few rows of them at a time.
template <int kRows, int kPanels>
void panels_of_rows(const F32Product& product, std::int64_t first_row, std::int64_t rows,
                    std::int64_t panel) {
  constexpr std::int64_t kWidth = kPanels * kPanel;
  const std::int64_t inputs = product.weights.inputs(), panel_size = inputs * kPanel;
  const std::int64_t width = std::min(kWidth, product.weights.outputs() - panel * kPanel);
  HWY_ALIGN float aside[kRows * kWidth];
  const std::int64_t step = width == kWidth ? rows : kRows;
  for (std::int64_t row = first_row; row < first_row + rows; row += step) {
    const std::int64_t count = std::min(step, first_row + rows - row);
    float* const to = product.out + row * product.out_stride + panel * kPanel;
    const bool whole = width == kWidth;
    float* const out = whole ? to : aside;
    const std::int64_t out_stride = whole ? product.out_stride : kWidth;
    for (std::int64_t i = 0; i < count; ++i) {
      float* const sums = out + i * out_stride;
      if (product.end == F32End::kStore) {
        std::fill_n(sums, width, 0.0f);
      } else if (!whole) {
        std::copy_n(to + i * product.out_stride, width, sums);
      }
      if (product.bias != nullptr) {
        const float* const bias = product.bias + panel * kPanel;
        for (std::int64_t j = 0; j < width; ++j) sums[j] += bias[j];
      }
      if (!whole) std::fill(sums + width, sums + kWidth, 0.0f);
    }
    for (std::int64_t input = 0; input < inputs; input += kBlockInputs) {
      tiles<kRows, kPanels>(count, product.x + row * product.x_stride + input, product.x_stride,
                            product.weights.data() + panel * panel_size + input * kPanel,
                            panel_size, std::min(kBlockInputs, inputs - input), out, out_stride);
    }
    if (whole) continue;
    for (std::int64_t i = 0; i < count; ++i) {
      std::copy_n(aside + i * kWidth, width, to + i * product.out_stride);
    }
  }
}

void multiply(const F32Product& product, std::int64_t first_panel, std::int64_t end_panel) {
  constexpr std::int64_t kWide = kLanes == kPanel ? 2 : 1;  // panels at a time
  constexpr std::int64_t kRows = std::max<std::int64_t>(1, kRegisters / (kWide * kVectors));
  const std::int64_t row_bytes =
      product.weights.inputs() * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t chunk = std::max(kRows, kChunkBytes / row_bytes / kRows * kRows);
  for (std::int64_t row = 0; row < product.rows; row += chunk) {
    const std::int64_t rows = std::min(chunk, product.rows - row);
    std::int64_t panel = first_panel;
    // A row alone waits for each sum: four panels at once, so that it waits less.
    for (; rows == 1 && panel + 4 <= end_panel; panel += 4) {
      panels_of_rows<1, 4>(product, row, rows, panel);
    }
    for (; panel + kWide <= end_panel; panel += kWide) {
      panels_of_rows<kRows, kWide>(product, row, rows, panel);
    }
    if (panel < end_panel) panels_of_rows<kRows, 1>(product, row, rows, panel);
  }
}

}  // namespace kv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kv {
namespace {

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

constexpr std::align_val_t kAlignment{64};

}  // namespace

void F32Matrix::Free::operator()(float* weights) const { ::operator delete[](weights, kAlignment); }

// Not cleared: that is as long as packing them.
F32Matrix::F32Matrix(std::int64_t outputs, std::int64_t inputs)
    : outputs_(outputs), inputs_(inputs) {
  const auto good = [](std::int64_t side) { return side > 0 && side <= kMaxSide; };
  require(good(outputs) && good(inputs), "F32Matrix: sides out of range");
  const auto size_bytes =
      static_cast<std::size_t>(panels() * kPanelOutputs * inputs) * sizeof(float);
  weights_.reset(static_cast<float*>(::operator new[](size_bytes, kAlignment)));
}

void F32Matrix::pack(std::int64_t first, std::span<const float> rows) {
  require(first >= 0 && first < outputs_ && first % kPackOutputs == 0, "F32Matrix: no such output");
  const std::int64_t count = std::min(kPackOutputs, outputs_ - first);
  require(std::ssize(rows) == count * inputs_, "F32Matrix: not as many weights");
  float* to = weights_.get() + first * inputs_;
  for (std::int64_t input = 0; input < inputs_; ++input, to += kPanelOutputs) {
    for (std::int64_t i = 0; i < count; ++i) {
      to[i] = rows[static_cast<std::size_t>(i * inputs_ + input)];
    }
    std::fill(to + count, to + kPanelOutputs, 0.0f);
  }
}

void f32_product(const F32Product& product, std::int64_t first_panel, std::int64_t end_panel) {
  const F32Matrix& weights = product.weights;
  require(first_panel >= 0 && first_panel <= end_panel && end_panel <= weights.panels(),
          "f32_product: no such panels");
  require(product.rows >= 0 && product.x_stride >= weights.inputs(),
          "f32_product: rows of x overlap");
  require(product.out_stride >= weights.outputs(), "f32_product: rows of the result overlap");
  static constexpr auto kVariants = KV_VECTOR_VARIANTS(multiply);
  kVariants.chosen()(product, first_panel, end_panel);
}

}  // namespace kv
#endif
