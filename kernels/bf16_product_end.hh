#pragma once
// What becomes of a block's sums, by AVX-512. Private to the folder, for files that are compiled
// for AVX512_BF16.

#include "bf16_product_targets.hh"
#include "exp2_avx512.hh"

#include <immintrin.h>

namespace kv {
namespace {

// Sums [rows][32] of one panel that wait to be ended, row by row.
template <ProductEnd kEnd>
class BlockEnd {
 public:
  BlockEnd() = default;
  BlockEnd(const ProductJob& job, const float* sums, std::int64_t row, std::int64_t rows,
           std::int64_t panel)
      : sums_(sums), rows_(rows), stride_(job.out_stride) {
    const std::int64_t column = panel * (is_paired(kEnd) ? 16 : kPanelWidth);
    bits_ = static_cast<std::uint16_t*>(job.out) + row * stride_ + column;
    floats_ = static_cast<float*>(job.out) + row * stride_ + column;
    if (job.bias != nullptr) {
      bias_[0] = _mm512_loadu_ps(job.bias + panel * kPanelWidth);
      bias_[1] = _mm512_loadu_ps(job.bias + panel * kPanelWidth + 16);
    }
  }

  // As many rows more, if there are.
  void advance(std::int64_t count) {
    for (; count > 0 && rows_ > 0; --count, --rows_) end_row();
  }
  void finish() { advance(rows_); }

 private:
  static void store_bf16(std::uint16_t* to, __m512 values) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(values));
  }

  // x / (1 + e^-x), or e of GELU; 1 / infinity is exactly 0.
  static __m512 gated(__m512 x) {
    __m512 slope = x;
    if constexpr (kEnd == ProductEnd::kGeluMul) {
      const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
      slope = _mm512_fmadd_ps(cube, _mm512_set1_ps(0.044715f * 1.59576912f),
                              _mm512_mul_ps(x, _mm512_set1_ps(1.59576912f)));
    }
    const __m512 e = exp2_coarse(_mm512_mul_ps(slope, _mm512_set1_ps(-1.44269504f)));
    return _mm512_mul_ps(x, _mm512_rcp14_ps(_mm512_add_ps(_mm512_set1_ps(1.0f), e)));
  }

  void end_row() {
    const __m512 first = _mm512_add_ps(_mm512_load_ps(sums_), bias_[0]);
    const __m512 second = _mm512_add_ps(_mm512_load_ps(sums_ + 16), bias_[1]);
    if constexpr (kEnd == ProductEnd::kStore) {
      store_bf16(bits_, first);
      store_bf16(bits_ + 16, second);
    } else if constexpr (kEnd == ProductEnd::kStoreF32) {
      _mm512_storeu_ps(floats_, first);
      _mm512_storeu_ps(floats_ + 16, second);
    } else if constexpr (kEnd == ProductEnd::kAdd) {
      _mm512_storeu_ps(floats_, _mm512_add_ps(_mm512_loadu_ps(floats_), first));
      _mm512_storeu_ps(floats_ + 16, _mm512_add_ps(_mm512_loadu_ps(floats_ + 16), second));
    } else {
      store_bf16(bits_, _mm512_mul_ps(gated(first), second));
    }
    sums_ += kPanelWidth;
    bits_ += stride_;
    floats_ += stride_;
  }

  const float* sums_ = nullptr;
  std::int64_t rows_ = 0, stride_ = 0;
  __m512 bias_[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  std::uint16_t* bits_ = nullptr;
  float* floats_ = nullptr;
};

// body.operator()<end>() for the job's end.
template <typename F>
void with_end(const ProductJob& job, const F& body) {
  switch (job.end) {
    case ProductEnd::kStore:
      return body.template operator()<ProductEnd::kStore>();
    case ProductEnd::kStoreF32:
      return body.template operator()<ProductEnd::kStoreF32>();
    case ProductEnd::kAdd:
      return body.template operator()<ProductEnd::kAdd>();
    case ProductEnd::kSiluMul:
      return body.template operator()<ProductEnd::kSiluMul>();
    case ProductEnd::kGeluMul:
      return body.template operator()<ProductEnd::kGeluMul>();
  }
}

}  // namespace
}  // namespace kv
