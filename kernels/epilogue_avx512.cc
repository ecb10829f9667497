#include "epilogue_vectors.hh"

#include <immintrin.h>

namespace kv {
namespace {

struct Avx512 {
  using I = __m512i;
  using F = __m512;
  static constexpr int kLanes = 16;

  static I load(const std::int32_t* at) { return _mm512_loadu_si512(at); }
  static I load_shifts(const std::int8_t* at) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
  static I load_multipliers(const std::uint8_t* at) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
  static void store(std::uint8_t* at, I value) { _mm512_storeu_si512(at, value); }
  static I set(std::int32_t value) { return _mm512_set1_epi32(value); }
  static F set_f(float value) { return _mm512_set1_ps(value); }
  static I add(I a, I b) { return _mm512_add_epi32(a, b); }
  static I subtract(I a, I b) { return _mm512_sub_epi32(a, b); }
  static I most(I a, I b) { return _mm512_max_epi32(a, b); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static I multiply(I a, I b) { return _mm512_mullo_epi32(a, b); }
  static F multiply(F a, F b) { return _mm512_mul_ps(a, b); }
  static F to_f(I a) { return _mm512_cvtepi32_ps(a); }
  static I shift_left_each(I a, I counts) { return _mm512_sllv_epi32(a, counts); }
  static I shift_right_each(I a, I counts) { return _mm512_srav_epi32(a, counts); }

  // Four vectors, held between -127 and 127 and with 128 added, as the bytes of one. Packing keeps
  // to 128 bits, where it leaves four tokens of each vector together.
  static I bytes(const I n[4]) {
    const I all =
        _mm512_packs_epi16(_mm512_packs_epi32(n[0], n[1]), _mm512_packs_epi32(n[2], n[3]));
    const __m128i by_token = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const I held = _mm512_max_epi8(all, _mm512_set1_epi8(-127));
    return _mm512_xor_si512(_mm512_shuffle_epi8(held, _mm512_broadcast_i32x4(by_token)),
                            _mm512_set1_epi8(-128));
  }

  static I bf16_bits(F x) {  // in the upper half
    const I bits = _mm512_castps_si512(x);
    const I odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), set(1));
    return add(bits, add(odd, set(0x7FFF)));
  }
  static I bf16_pair(F even, F odd) {
    return _mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_srli_epi32(bf16_bits(even), 16),
                                   bf16_bits(odd));
  }
  static I f16_pair(F even, F odd) {
    const auto half = [](F x) {
      return _mm512_cvtepu16_epi32(
          _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    };
    return _mm512_or_si512(half(even), _mm512_slli_epi32(half(odd), 16));
  }

  static void store_columns(const I pairs[2], std::uint16_t* to, std::int64_t stride) {
    const I first = _mm512_unpacklo_epi32(pairs[0], pairs[1]);   // of each four tokens 0 and 1
    const I second = _mm512_unpackhi_epi32(pairs[0], pairs[1]);  // 2 and 3
    const auto four = [&](__m128i low, __m128i high, std::uint16_t* row) {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(row), low);
      _mm_storeh_pi(reinterpret_cast<__m64*>(row + stride), _mm_castsi128_ps(low));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(row + 2 * stride), high);
      _mm_storeh_pi(reinterpret_cast<__m64*>(row + 3 * stride), _mm_castsi128_ps(high));
    };
    four(_mm512_castsi512_si128(first), _mm512_castsi512_si128(second), to);
    four(_mm512_extracti32x4_epi32(first, 1), _mm512_extracti32x4_epi32(second, 1),
         to + 4 * stride);
    four(_mm512_extracti32x4_epi32(first, 2), _mm512_extracti32x4_epi32(second, 2),
         to + 8 * stride);
    four(_mm512_extracti32x4_epi32(first, 3), _mm512_extracti32x4_epi32(second, 3),
         to + 12 * stride);
  }

  static void store_columns(const F x[4], float* to, std::int64_t stride) {
    const F a = _mm512_unpacklo_ps(x[0], x[1]), b = _mm512_unpackhi_ps(x[0], x[1]);
    const F c = _mm512_unpacklo_ps(x[2], x[3]), d = _mm512_unpackhi_ps(x[2], x[3]);
    const F rows[4] = {_mm512_shuffle_ps(a, c, 0x44), _mm512_shuffle_ps(a, c, 0xEE),
                       _mm512_shuffle_ps(b, d, 0x44), _mm512_shuffle_ps(b, d, 0xEE)};
    for (int i = 0; i < 4; ++i) {  // of each four tokens the i-th
      float* row = to + i * stride;
      _mm_storeu_ps(row, _mm512_castps512_ps128(rows[i]));
      _mm_storeu_ps(row + 4 * stride, _mm512_extractf32x4_ps(rows[i], 1));
      _mm_storeu_ps(row + 8 * stride, _mm512_extractf32x4_ps(rows[i], 2));
      _mm_storeu_ps(row + 12 * stride, _mm512_extractf32x4_ps(rows[i], 3));
    }
  }
};

}  // namespace

EpilogueTarget reconstruct_avx512(const Reconstruction& job) {
  Epilogue<Avx512>::run(job);
  return EpilogueTarget::kAvx512;
}

}  // namespace kv
