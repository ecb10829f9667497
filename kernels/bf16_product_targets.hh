#pragma once
// One signature and a function a target. Private to the folder. No inline code of the standard
// library here: the files that include this are compiled for one processor each, and the linker may
// keep such a function for all.

#include "bf16_product.hh"

#include <cstdint>

namespace kv {

struct ProductJob {
  const std::uint16_t* panels;  // as Bf16Matrix::data()
  std::int64_t steps;           // of 32 inputs
  const std::uint16_t* x;
  std::int64_t x_stride, rows;
  const float* bias;  // null, or [panels][32] in the panels' order
  ProductEnd end;
  void* out;
  std::int64_t out_stride;
  std::int64_t first_panel, end_panel;
};

inline constexpr std::int64_t kPanelWidth = 32, kStepValues = 1024, kBlockRows = 32;

using ProductFunction = ProductTarget (*)(const ProductJob&);
ProductTarget product_scalar(const ProductJob& job);
ProductTarget product_avx512bf16(const ProductJob& job);
ProductTarget product_amx(const ProductJob& job);

}  // namespace kv
