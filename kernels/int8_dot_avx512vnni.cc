#include "int8_dot_vectors.hh"

#include <immintrin.h>

namespace kv {
namespace {

struct Avx512Vnni {
  using Acc = __m512i;
  using X = __m512i;
  static constexpr std::int64_t kLanes = 16, kXBytes = 64;
  static constexpr int kVectors = 3, kRows = 8, kGroup = 48;
  static constexpr bool kCentred = false;

  static Acc set(std::int32_t value) { return _mm512_set1_epi32(value); }
  static Acc load(const std::int32_t* at) { return _mm512_loadu_si512(at); }
  static void store(std::int32_t* at, Acc value) { _mm512_storeu_si512(at, value); }
  static X load_x(const std::uint8_t* at) { return _mm512_load_si512(at); }
  static void pack(std::uint8_t* to, const std::uint8_t* from) {
    _mm512_store_si512(to, _mm512_loadu_si512(from));
  }
  static __m512i broadcast(const std::int8_t* at) { return _mm512_set1_epi32(quad_of_weights(at)); }
  static Acc dot(Acc sum, X x, __m512i w) { return _mm512_dpbusd_epi32(sum, x, w); }
};

}  // namespace

DotTarget dot_avx512vnni(const DotJob& job) {
  multiply<Avx512Vnni>(job);
  return DotTarget::kAvx512Vnni;
}

}  // namespace kv
