#include "clp_inverse.hh"

#include "kv/kernels/vector_target.hh"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kv/codec/clp_inverse.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kv::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;

// Columns whose pivots are found before the others hear of them: then what these have to do is a
// product of matrices, and their values come from memory once for all sixteen.
constexpr std::int64_t kPanel = 16;

// One pivot of Gauss and Jordan's method, in place, on a panel of n rows.
void EliminateInPanel(float* panel, std::int64_t n, std::int64_t pivot, std::int64_t column) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  float* of_pivot = panel + pivot * kPanel;
  const float inverse = 1.0f / of_pivot[column];
  of_pivot[column] = 1.0f;
  for (std::int64_t c = 0; c < kPanel; ++c) of_pivot[c] *= inverse;
  for (std::int64_t i = 0; i < n; ++i) {
    if (i == pivot) continue;
    float* row = panel + i * kPanel;
    const float factor = row[column];
    for (std::int64_t c = 0; c < kPanel; c += lanes) {
      const auto rest =
          hn::NegMulAdd(hn::Set(d, factor), hn::LoadU(d, of_pivot + c), hn::LoadU(d, row + c));
      hn::StoreU(rest, d, row + c);
    }
    row[column] = -factor * inverse;
  }
}

// Four rows, or zeros in their place, plus four of the panel's times the rows of its pivots.
void AddProducts(const float* panel, const float* pivots, std::int64_t count, std::int64_t stride,
                 bool zeros, float* rows) {
  const Floats d;
  using V = hn::Vec<decltype(d)>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t c = 0; c < stride; c += 2 * lanes) {
    V a[4], b[4];
    for (std::int64_t r = 0; r < 4; ++r) {
      a[r] = zeros ? hn::Zero(d) : hn::LoadU(d, rows + r * stride + c);
      b[r] = zeros ? hn::Zero(d) : hn::LoadU(d, rows + r * stride + c + lanes);
    }
    for (std::int64_t k = 0; k < count; ++k) {
      const V x = hn::LoadU(d, pivots + k * stride + c);
      const V y = hn::LoadU(d, pivots + k * stride + c + lanes);
      for (std::int64_t r = 0; r < 4; ++r) {
        const V factor = hn::Set(d, panel[r * kPanel + k]);
        a[r] = hn::MulAdd(factor, x, a[r]);
        b[r] = hn::MulAdd(factor, y, b[r]);
      }
    }
    for (std::int64_t r = 0; r < 4; ++r) {
      hn::StoreU(a[r], d, rows + r * stride + c);
      hn::StoreU(b[r], d, rows + r * stride + c + lanes);
    }
  }
}

void Invert(float* matrix, std::int64_t n) {
  const std::int64_t stride = inverse_stride(n);
  std::vector<float> panel(static_cast<std::size_t>(n * kPanel));
  std::vector<float> pivots(static_cast<std::size_t>(kPanel * stride));
  std::vector<std::int64_t> swapped(static_cast<std::size_t>(n));
  const auto row = [&](std::int64_t i) { return matrix + i * stride; };
  const auto panel_row = [&](std::int64_t i) { return panel.data() + i * kPanel; };
  for (std::int64_t first = 0; first < n; first += kPanel) {
    const std::int64_t count = std::min(kPanel, n - first);
    for (std::int64_t i = 0; i < n; ++i) std::copy_n(row(i) + first, count, panel_row(i));
    for (std::int64_t j = 0; j < count; ++j) {
      std::int64_t pivot = first + j;
      for (std::int64_t i = pivot + 1; i < n; ++i) {
        if (std::fabs(panel_row(i)[j]) > std::fabs(panel_row(pivot)[j])) pivot = i;
      }
      swapped[static_cast<std::size_t>(first + j)] = pivot;
      if (pivot != first + j) {
        std::swap_ranges(panel_row(pivot), panel_row(pivot) + kPanel, panel_row(first + j));
        std::swap_ranges(row(pivot), row(pivot) + stride, row(first + j));
      }
      EliminateInPanel(panel.data(), n, first + j, j);
    }
    for (std::int64_t j = 0; j < count; ++j) {
      float* to = pivots.data() + j * stride;
      std::copy_n(row(first + j), stride, to);
      std::fill_n(to + first, count, 0.0f);  // these columns are the panel
    }
    for (std::int64_t i = 0; i < n; i += 4) {
      const bool zeros = i >= first && i < first + count;
      AddProducts(panel_row(i), pivots.data(), count, stride, zeros, row(i));
    }
    for (std::int64_t i = 0; i < n; ++i) std::copy_n(panel_row(i), count, row(i) + first);
  }
  // Rows that changed places are columns of the inverse that did.
  for (std::int64_t j = n; j-- > 0;) {
    const std::int64_t other = swapped[static_cast<std::size_t>(j)];
    if (other == j) continue;
    for (std::int64_t i = 0; i < n; ++i) std::swap(row(i)[j], row(i)[other]);
  }
}

}  // namespace kv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kv {
void invert(float* matrix, std::int64_t n) { KV_VECTOR_VARIANTS(Invert).chosen()(matrix, n); }
}  // namespace kv
#endif
