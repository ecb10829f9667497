#include "epilogue_vectors.hh"

#include <immintrin.h>

namespace kv {
namespace {

struct Avx2 {
  using I = __m256i;
  using F = __m256;
  static constexpr int kLanes = 8;

  static I load(const std::int32_t* at) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  }
  static I load_shifts(const std::int8_t* at) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
  }
  static I load_multipliers(const std::uint8_t* at) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
  }
  static void store(std::uint8_t* at, I value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), value);
  }
  static I set(std::int32_t value) { return _mm256_set1_epi32(value); }
  static F set_f(float value) { return _mm256_set1_ps(value); }
  static I add(I a, I b) { return _mm256_add_epi32(a, b); }
  static I subtract(I a, I b) { return _mm256_sub_epi32(a, b); }
  static I most(I a, I b) { return _mm256_max_epi32(a, b); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static I multiply(I a, I b) { return _mm256_mullo_epi32(a, b); }
  static F multiply(F a, F b) { return _mm256_mul_ps(a, b); }
  static F to_f(I a) { return _mm256_cvtepi32_ps(a); }
  static I shift_left_each(I a, I counts) { return _mm256_sllv_epi32(a, counts); }
  static I shift_right_each(I a, I counts) { return _mm256_srav_epi32(a, counts); }

  // Four vectors, held between -127 and 127 and with 128 added, as the bytes of one. Packing keeps
  // to 128 bits, where it leaves four tokens of each vector together.
  static I bytes(const I n[4]) {
    const I all =
        _mm256_packs_epi16(_mm256_packs_epi32(n[0], n[1]), _mm256_packs_epi32(n[2], n[3]));
    const __m128i by_token = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const I held = _mm256_max_epi8(all, _mm256_set1_epi8(-127));
    return _mm256_xor_si256(_mm256_shuffle_epi8(held, _mm256_broadcastsi128_si256(by_token)),
                            _mm256_set1_epi8(-128));
  }

  static I bf16_bits(F x) {  // in the upper half
    const I bits = _mm256_castps_si256(x);
    const I odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), set(1));
    return add(bits, add(odd, set(0x7FFF)));
  }
  static I bf16_pair(F even, F odd) {
    return _mm256_blend_epi16(_mm256_srli_epi32(bf16_bits(even), 16), bf16_bits(odd), 0xAA);
  }
  static I f16_pair(F even, F odd) {
    const auto half = [](F x) {
      return _mm256_cvtepu16_epi32(
          _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    };
    return _mm256_or_si256(half(even), _mm256_slli_epi32(half(odd), 16));
  }

  static void store_columns(const I pairs[2], std::uint16_t* to, std::int64_t stride) {
    const I first = _mm256_unpacklo_epi32(pairs[0], pairs[1]);   // of each four tokens 0 and 1
    const I second = _mm256_unpackhi_epi32(pairs[0], pairs[1]);  // 2 and 3
    const auto four = [&](__m128i low, __m128i high, std::uint16_t* row) {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(row), low);
      _mm_storeh_pi(reinterpret_cast<__m64*>(row + stride), _mm_castsi128_ps(low));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(row + 2 * stride), high);
      _mm_storeh_pi(reinterpret_cast<__m64*>(row + 3 * stride), _mm_castsi128_ps(high));
    };
    four(_mm256_castsi256_si128(first), _mm256_castsi256_si128(second), to);
    four(_mm256_extracti128_si256(first, 1), _mm256_extracti128_si256(second, 1), to + 4 * stride);
  }

  static void store_columns(const F x[4], float* to, std::int64_t stride) {
    const F a = _mm256_unpacklo_ps(x[0], x[1]), b = _mm256_unpackhi_ps(x[0], x[1]);
    const F c = _mm256_unpacklo_ps(x[2], x[3]), d = _mm256_unpackhi_ps(x[2], x[3]);
    const F rows[4] = {_mm256_shuffle_ps(a, c, 0x44), _mm256_shuffle_ps(a, c, 0xEE),
                       _mm256_shuffle_ps(b, d, 0x44), _mm256_shuffle_ps(b, d, 0xEE)};
    for (int i = 0; i < 4; ++i) {  // of each four tokens the i-th
      _mm_storeu_ps(to + i * stride, _mm256_castps256_ps128(rows[i]));
      _mm_storeu_ps(to + (i + 4) * stride, _mm256_extractf128_ps(rows[i], 1));
    }
  }
};

}  // namespace

EpilogueTarget reconstruct_avx2(const Reconstruction& job) {
  Epilogue<Avx2>::run(job);
  return EpilogueTarget::kAvx2;
}

}  // namespace kv
