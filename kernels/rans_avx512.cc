// AVX-512 with VBMI2. The 32 states lie in two registers, high halves and low halves, so that a
// step is one pass over 32 lanes of 16 bits: "below 2^16" is "high half is 0", and renormalising
// moves the low half up and expands words into the gaps.
#ifdef __x86_64__
#include "kv/kernels/rans_row.hh"

#include <hwy/base.h>
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>

HWY_PUSH_ATTRIBUTES(
    "avx,avx2,bmi,bmi2,popcnt,lzcnt,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2")
namespace kv::avx512 {

namespace {

HWY_INLINE __m512i words_of(const RansRow::Words& words) { return _mm512_load_si512(&words); }

struct Step {
  struct State {
    __m512i high, low;
  };

  static HWY_INLINE __m512i narrow(__m512i a, __m512i b) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(a)),
                              _mm512_cvtepi32_epi16(b), 1);
  }
  static HWY_INLINE __m512i widen(__m256i high, __m256i low) {
    return _mm512_or_si512(_mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16),
                           _mm512_cvtepu16_epi32(low));
  }
  static HWY_INLINE State load(const std::uint32_t* states) {
    const __m512i a = _mm512_load_si512(states), b = _mm512_load_si512(states + 16);
    return {narrow(_mm512_srli_epi32(a, 16), _mm512_srli_epi32(b, 16)), narrow(a, b)};
  }
  static HWY_INLINE void store(const State& s, std::uint32_t* states) {
    _mm512_store_si512(states,
                       widen(_mm512_castsi512_si256(s.high), _mm512_castsi512_si256(s.low)));
    _mm512_store_si512(states + 16, widen(_mm512_extracti64x4_epi64(s.high, 1),
                                          _mm512_extracti64x4_epi64(s.low, 1)));
  }

  // The indices of one step or two: those of the second below those of the first.
  using Index = __m512i;
  static constexpr bool kPairs = true;

  // One step: `at` behind the words used, the indices below what is in `index`.
  template <int kBits, bool kPartial>
  static HWY_INLINE void advance(State& s, const RansRow& row, const std::byte*& at, __m512i& index,
                                 std::uint32_t lanes) {
    const __m512i slot = _mm512_and_si512(s.low, _mm512_set1_epi16(0x0FFF));
    // The sign of slot - bound is the next bit of the index.
    index = _mm512_shldi_epi16(index, _mm512_sub_epi16(slot, words_of(row.split[kBits - 1])), 1);
    HWY_UNROLL(4)
    for (int bit = kBits - 2; bit >= 0; --bit) {
      const __m512i bound = _mm512_permutexvar_epi16(index, words_of(row.split[bit]));
      index = _mm512_shldi_epi16(index, _mm512_sub_epi16(slot, bound), 1);
    }
    const __m512i scaled = _mm512_permutexvar_epi16(index, words_of(row.scaled));
    const __m512i start = _mm512_permutexvar_epi16(index, words_of(row.start));

    // f (x >> 12) + slot - start = 16 f * high + f * (low >> 12) + slot - start; all but the first
    // product is below 16 f.
    const __m512i top = _mm512_and_si512(s.low, _mm512_set1_epi16(static_cast<short>(0xF000)));
    const __m512i small =
        _mm512_add_epi16(_mm512_mulhi_epu16(scaled, top), _mm512_sub_epi16(slot, start));
    const __m512i low = _mm512_add_epi16(_mm512_mullo_epi16(scaled, s.high), small);
    const __mmask32 carry = _mm512_cmplt_epu16_mask(low, small);
    __m512i high = _mm512_mulhi_epu16(scaled, s.high);
    high = _mm512_mask_sub_epi16(high, carry, high, _mm512_set1_epi16(-1));

    const __m512i words = _mm512_loadu_si512(at);
    __mmask32 renew;
    if constexpr (kPartial) {
      renew = _mm512_mask_testn_epi16_mask(lanes, high, high);
      s.high = _mm512_mask_mov_epi16(s.high, lanes, high);
      s.low = _mm512_mask_mov_epi16(s.low, lanes, low);
    } else {
      renew = _mm512_testn_epi16_mask(high, high);
      s.high = high;
      s.low = low;
    }
    s.high = _mm512_mask_mov_epi16(s.high, renew, low);
    s.low = _mm512_mask_expand_epi16(s.low, renew, words);
    at += 2 * static_cast<std::size_t>(_mm_popcnt_u32(renew));
  }

  // The 32 values of a step, and which lanes have escapes.
  template <int kBits, bool kPartial>
  static HWY_INLINE void write(const RansRow& row, __m512i index, std::int8_t* out,
                               std::uint32_t* escape_lanes, std::uint32_t lanes) {
    index = _mm512_and_si512(index, _mm512_set1_epi16((1 << kBits) - 1));
    const __mmask32 escapes = _mm512_testn_epi16_mask(index, index);
    __m512i value = _mm512_sub_epi16(_mm512_set1_epi16(static_cast<short>(row.symbols / 2)), index);
    value = _mm512_mask_mov_epi16(value, escapes, _mm512_set1_epi16(kRansEscape));
    *escape_lanes = escapes & lanes;
    if constexpr (kPartial) value = _mm512_maskz_mov_epi16(lanes, value);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi16_epi8(value));
  }

  // 64 values of two steps.
  template <int kBits>
  static HWY_INLINE void write_pair(const RansRow& row, __m512i index, std::int8_t* out,
                                    std::uint32_t* escape_lanes) {
    // Of four lanes, 16 bits each: the indices of the second step, then those of the first.
    constexpr long long kSecond = 0x30201000, kFirst = kSecond + 0x01010101 * kBits;
    const __m512i apart = _mm512_and_si512(
        _mm512_multishift_epi64_epi8(_mm512_set1_epi64(kFirst << 32 | kSecond), index),
        _mm512_set1_epi8((1 << kBits) - 1));
    const __m512i bytes = _mm512_permutexvar_epi32(
        _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 0, 2, 4, 6, 8, 10, 12, 14), apart);
    const __mmask64 escapes = _mm512_testn_epi8_mask(bytes, bytes);
    const __m512i value =
        _mm512_sub_epi8(_mm512_set1_epi8(static_cast<char>(row.symbols / 2)), bytes);
    _mm512_storeu_si512(out, _mm512_mask_mov_epi8(value, escapes, _mm512_set1_epi8(kRansEscape)));
    std::memcpy(escape_lanes, &escapes, sizeof(escapes));
  }

  static constexpr int encode_bits(int /*bits*/) { return 5; }  // a lookup costs the same for all

  // One step backwards: returns where the words begin that it put before `at`.
  template <int kBits, bool kPartial>
  static HWY_INLINE std::byte* encode(State& s, const RansRow& row, std::byte* at,
                                      const std::int8_t* values, std::uint32_t lanes) {
    const __m512i value =
        _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values)));
    // Saturation makes index 0, the escape, of all that is out of range.
    const __m512i index =
        _mm512_subs_epu16(words_of(row.last), _mm512_add_epi16(value, words_of(row.below)));
    const __m512i scaled = _mm512_permutexvar_epi16(index, words_of(row.scaled));
    const __m512i start = _mm512_permutexvar_epi16(index, words_of(row.start));
    const __m512i shift = _mm512_permutexvar_epi16(index, words_of(row.shift));
    const __m512i reciprocal = _mm512_permutexvar_epi16(index, words_of(row.reciprocal));
    const __m512i digit = _mm512_permutexvar_epi16(index, words_of(row.digit));

    __mmask32 full = _mm512_cmpge_epu16_mask(s.high, scaled);
    if constexpr (kPartial) full &= lanes;
    const auto count = static_cast<unsigned>(_mm_popcnt_u32(full));
    at -= 2 * static_cast<std::size_t>(count);
    _mm512_mask_storeu_epi16(at, _bzhi_u32(0xFFFFFFFFu, count),
                             _mm512_maskz_compress_epi16(full, s.low));
    const __m512i x_low = _mm512_mask_mov_epi16(s.low, full, s.high);
    const __m512i x_high = _mm512_mask_mov_epi16(s.high, full, _mm512_setzero_si512());

    // x / (16 f) by the reciprocal: an estimate, then two corrections. `over` is the remainder were
    // the quotient one more.
    const __m512i one = _mm512_set1_epi16(1);
    const __m512i u1 = _mm512_shldv_epi16(x_high, x_low, shift);
    const __m512i u0 = _mm512_sllv_epi16(x_low, shift);
    const __m512i divisor = _mm512_sllv_epi16(scaled, shift);
    const __m512i fraction = _mm512_add_epi16(_mm512_mullo_epi16(reciprocal, u1), u0);
    const __mmask32 carry = _mm512_cmplt_epu16_mask(fraction, u0);
    __m512i quotient = _mm512_add_epi16(_mm512_mulhi_epu16(reciprocal, u1), u1);
    quotient = _mm512_mask_add_epi16(quotient, carry, quotient, one);
    __m512i rest = _mm512_sub_epi16(u0, _mm512_mullo_epi16(quotient, divisor));
    const __m512i over = _mm512_sub_epi16(rest, divisor);
    const __mmask32 more = _mm512_cmple_epu16_mask(over, fraction);
    quotient = _mm512_mask_add_epi16(quotient, more, quotient, one);
    rest = _mm512_mask_mov_epi16(rest, more, over);
    const __mmask32 still = _mm512_cmpge_epu16_mask(rest, divisor);
    quotient = _mm512_mask_add_epi16(quotient, still, quotient, one);
    rest = _mm512_mask_sub_epi16(rest, still, rest, divisor);

    // The last four bits of x / f, by an estimate that is right or one too small.
    const __m512i sixteenth = _mm512_srli_epi16(divisor, 4);
    __m512i last = _mm512_srli_epi16(_mm512_mulhi_epu16(rest, digit), 11);
    rest = _mm512_sub_epi16(rest, _mm512_mullo_epi16(last, sixteenth));
    const __mmask32 up = _mm512_cmpge_epu16_mask(rest, sixteenth);
    last = _mm512_mask_add_epi16(last, up, last, one);
    rest = _mm512_mask_sub_epi16(rest, up, rest, sixteenth);
    const __m512i low = _mm512_add_epi16(_mm512_slli_epi16(last, 12),
                                         _mm512_add_epi16(_mm512_srlv_epi16(rest, shift), start));
    if constexpr (kPartial) {
      s.high = _mm512_mask_mov_epi16(s.high, lanes, quotient);
      s.low = _mm512_mask_mov_epi16(s.low, lanes, low);
    } else {
      s.high = quotient;
      s.low = low;
    }
    return at;
  }
};

#include "kv/kernels/rans_lockstep.hh"

}  // namespace

void decode(const RansTables& tables, std::span<RansDecodeJob> jobs) {
  rans_set_last_target(RansTarget::kAvx512);
  decode_all(tables, jobs);
}

void encode(const RansTables& tables, std::span<const RansEncodeJob> jobs) {
  rans_set_last_target(RansTarget::kAvx512);
  encode_all(tables, jobs);
}

}  // namespace kv::avx512
HWY_POP_ATTRIBUTES
#endif
