#include "bf16_product_end.hh"
#include "bf16_product_targets.hh"

#include <immintrin.h>

namespace kv {
namespace {

// kRows x 32 outputs. Few rows wait for each sum, not for the multiplier: they have kChains sums.
template <int kRows, ProductEnd kEnd>
void multiply_rows(const ProductJob& job, std::int64_t row, std::int64_t panel) {
  constexpr int kChains = kRows <= 3 ? 4 : 1;
  __m512 sums[kChains][kRows][2];
  for (auto& chain : sums) {
    for (auto& pair : chain) pair[0] = pair[1] = _mm512_setzero_ps();
  }
  const std::uint16_t* weights = job.panels + panel * job.steps * kStepValues;
  const std::uint16_t* x = job.x + row * job.x_stride;
  for (std::int64_t step = 0; step < job.steps; ++step, weights += kStepValues, x += 32) {
    for (int j = 0; j < 16; j += kChains) {
      for (int chain = 0; chain < kChains; ++chain) {
        const std::uint16_t* at = weights + 32 * (j + chain);
        const auto first = (__m512bh)_mm512_loadu_si512(at);
        const auto second = (__m512bh)_mm512_loadu_si512(at + 512);
        for (int r = 0; r < kRows; ++r) {
          std::int32_t pair;
          __builtin_memcpy(&pair, x + r * job.x_stride + 2 * (j + chain), sizeof pair);
          const auto both = (__m512bh)_mm512_set1_epi32(pair);
          sums[chain][r][0] = _mm512_dpbf16_ps(sums[chain][r][0], both, first);
          sums[chain][r][1] = _mm512_dpbf16_ps(sums[chain][r][1], both, second);
        }
      }
    }
  }
  alignas(64) float block[kRows][kPanelWidth];
  for (int r = 0; r < kRows; ++r) {
    for (int half = 0; half < 2; ++half) {
      __m512 sum = sums[0][r][half];
      for (int chain = 1; chain < kChains; ++chain) {
        sum = _mm512_add_ps(sum, sums[chain][r][half]);
      }
      _mm512_store_ps(block[r] + 16 * half, sum);
    }
  }
  BlockEnd<kEnd>(job, block[0], row, kRows, panel).finish();
}

constexpr std::int64_t kRowsAtOnce = 12;

template <ProductEnd kEnd>
void multiply_rest(const ProductJob& job, std::int64_t row, std::int64_t panel) {
  using Rows = void (*)(const ProductJob&, std::int64_t, std::int64_t);
  static constexpr Rows kRest[] = {
      multiply_rows<1, kEnd>,  multiply_rows<2, kEnd>, multiply_rows<3, kEnd>,
      multiply_rows<4, kEnd>,  multiply_rows<5, kEnd>, multiply_rows<6, kEnd>,
      multiply_rows<7, kEnd>,  multiply_rows<8, kEnd>, multiply_rows<9, kEnd>,
      multiply_rows<10, kEnd>, multiply_rows<11, kEnd>};
  if (row < job.rows) kRest[job.rows - row - 1](job, row, panel);
}

}  // namespace

ProductTarget product_avx512bf16(const ProductJob& job) {
  with_end(job, [&]<ProductEnd kEnd>() {
    for (std::int64_t panel = job.first_panel; panel < job.end_panel; ++panel) {
      std::int64_t row = 0;
      for (; row + kRowsAtOnce <= job.rows; row += kRowsAtOnce) {
        multiply_rows<kRowsAtOnce, kEnd>(job, row, panel);
      }
      multiply_rest<kEnd>(job, row, panel);
    }
  });
  return ProductTarget::kAvx512Bf16;
}

}  // namespace kv
