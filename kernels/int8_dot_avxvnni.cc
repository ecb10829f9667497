#include "int8_dot_vectors.hh"

#include <immintrin.h>

namespace kv {
namespace {

struct AvxVnni {
  using Acc = __m256i;
  using X = __m256i;
  static constexpr std::int64_t kLanes = 8, kXBytes = 32;
  static constexpr int kVectors = 2, kRows = 6, kGroup = 24;
  static constexpr bool kCentred = false;

  static Acc set(std::int32_t value) { return _mm256_set1_epi32(value); }
  static Acc load(const std::int32_t* at) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  }
  static void store(std::int32_t* at, Acc value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), value);
  }
  static X load_x(const std::uint8_t* at) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(at));
  }
  static void pack(std::uint8_t* to, const std::uint8_t* from) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(to),
                       _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static __m256i broadcast(const std::int8_t* at) { return _mm256_set1_epi32(quad_of_weights(at)); }
  static Acc dot(Acc sum, X x, __m256i w) { return _mm256_dpbusd_avx_epi32(sum, x, w); }
};

}  // namespace

DotTarget dot_avxvnni(const DotJob& job) {
  multiply<AvxVnni>(job);
  return DotTarget::kAvxVnni;
}

}  // namespace kv
