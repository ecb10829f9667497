#include "int8_dot_vectors.hh"

#include <immintrin.h>

namespace kv {
namespace {

// vpmaddubsw multiplies unsigned by signed bytes and adds two products in 16 bits, where it
// saturates. Given |x - 128| <= 128 and the weight with the sign of x - 128, the sum is at most 2 *
// 128 * 127 = 32512, so it never does; |w| <= 127 is also why the sign can be moved.
struct Avx2 {
  using Acc = __m256i;
  struct X {
    __m256i value, magnitude;
  };
  static constexpr std::int64_t kLanes = 8, kXBytes = 64;
  static constexpr int kVectors = 2, kRows = 4, kGroup = 8;
  static constexpr bool kCentred = true;

  static Acc set(std::int32_t value) { return _mm256_set1_epi32(value); }
  static Acc load(const std::int32_t* at) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  }
  static void store(std::int32_t* at, Acc value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), value);
  }
  static X load_x(const std::uint8_t* at) {
    const auto* vectors = reinterpret_cast<const __m256i*>(at);
    return {_mm256_load_si256(vectors), _mm256_load_si256(vectors + 1)};
  }
  static void pack(std::uint8_t* to, const std::uint8_t* from) {
    const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    const __m256i value = _mm256_xor_si256(raw, _mm256_set1_epi8(-128));
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), value);
    _mm256_store_si256(reinterpret_cast<__m256i*>(to) + 1, _mm256_abs_epi8(value));
  }
  static __m256i broadcast(const std::int8_t* at) { return _mm256_set1_epi32(quad_of_weights(at)); }
  static Acc dot(Acc sum, X x, __m256i w) {
    const __m256i pairs = _mm256_maddubs_epi16(x.magnitude, _mm256_sign_epi8(w, x.value));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};

}  // namespace

DotTarget dot_avx2(const DotJob& job) {
  multiply<Avx2>(job);
  return DotTarget::kAvx2;
}

}  // namespace kv
