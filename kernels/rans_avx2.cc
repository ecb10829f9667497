// AVX2. As in rans_avx512.cc the states lie as high and low halves, 16 lanes of 16 bits a register:
// lanes 0-7 and 16-23 in the first, 8-15 and 24-31 in the second, so that packing both to bytes
// puts them in order.
#ifdef __x86_64__
#include "kv/kernels/rans_row.hh"

#include <hwy/base.h>
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>

HWY_PUSH_ATTRIBUTES("avx,avx2,bmi,bmi2,popcnt,lzcnt")
namespace kv::avx2 {

namespace {

#include "kv/kernels/rans_avx2_lookup.hh"

struct Step {
  struct State {
    __m256i high[2], low[2];
  };

  static HWY_INLINE State load(const std::uint32_t* states) {
    State s;
    HWY_UNROLL(2)
    for (int half = 0; half < 2; ++half) {
      // packus interleaves as wanted when lanes 0-3 and 16-19 meet 4-7 and 20-23.
      const std::uint32_t* from = states + 8 * half;
      const __m256i a = join(load16(from), load16(from + 16));
      const __m256i b = join(load16(from + 4), load16(from + 20));
      const __m256i low = _mm256_set1_epi32(0xFFFF);
      s.low[half] = _mm256_packus_epi32(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
      s.high[half] = _mm256_packus_epi32(_mm256_srli_epi32(a, 16), _mm256_srli_epi32(b, 16));
    }
    return s;
  }

  static HWY_INLINE void store(const State& s, std::uint32_t* states) {
    HWY_UNROLL(2)
    for (int half = 0; half < 2; ++half) {
      const __m256i a = _mm256_unpacklo_epi16(s.low[half], s.high[half]);
      const __m256i b = _mm256_unpackhi_epi16(s.low[half], s.high[half]);
      auto* to = reinterpret_cast<__m128i*>(states + 8 * half);
      _mm_storeu_si128(to, _mm256_castsi256_si128(a));
      _mm_storeu_si128(to + 1, _mm256_castsi256_si128(b));
      _mm_storeu_si128(to + 4, _mm256_extracti128_si256(a, 1));
      _mm_storeu_si128(to + 5, _mm256_extracti128_si256(b, 1));
    }
  }

  static HWY_INLINE std::uint32_t to_mask(__m256i a, __m256i b) {
    return static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_packs_epi16(a, b)));
  }

  // Of the words for the lanes of a mask, those before a group of eight lanes.
  static HWY_INLINE std::size_t bytes_before(std::uint32_t mask, unsigned group) {
    return 2 * static_cast<std::size_t>(_mm_popcnt_u32(_bzhi_u32(mask, 8 * group)));
  }

  // All ones in the 16-bit lanes of a half whose bit is set.
  static HWY_INLINE __m256i from_mask(std::uint32_t lanes, int half) {
    const __m256i bits =
        _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128);
    const std::uint32_t mine = lanes >> (8 * half);
    const __m256i spread = join(_mm_set1_epi16(static_cast<short>(mine & 0xFF)),
                                _mm_set1_epi16(static_cast<short>(mine >> 16 & 0xFF)));
    return _mm256_cmpeq_epi16(_mm256_and_si256(spread, bits), bits);
  }

  // The index of a slot, from its highest bit on: set where the slot is below the bound.
  template <int kBits>
  static HWY_INLINE Entry<kBits> search(__m256i slot, const RansRow& row, __m256i& index) {
    Entry<kBits> found;
    found.control = _mm256_set1_epi16(0x0100);
    found.bit3 = found.bit4 = _mm256_setzero_si256();
    index = _mm256_setzero_si256();
    // While fewer than 4 bits are known, they are the entry to fetch.
    Entry<3> partial{found.control, {}, {}};
    HWY_UNROLL(5)
    for (int bit = kBits - 1; bit >= 0; --bit) {
      __m256i bound;
      if (bit == kBits - 1) {
        bound = twice(row.split[bit].data());
      } else if (kBits == 5 && bit == 0) {
        Entry<4> four{partial.control, found.bit4, {}};  // the highest of four known bits
        bound = four.fetch(row.split[bit]);
      } else {
        bound = partial.fetch(row.split[bit]);
      }
      const __m256i below = _mm256_cmpgt_epi16(bound, slot);
      index = _mm256_sub_epi16(_mm256_add_epi16(index, index), below);
      // control = 0x0100 + 0x0202 * index; pshufb looks at four bits of it.
      partial.control = _mm256_add_epi16(_mm256_mullo_epi16(index, _mm256_set1_epi16(0x0202)),
                                         _mm256_set1_epi16(0x0100));
      if (bit == 4) found.bit4 = below;
      if (bit == 3) found.bit3 = below;
    }
    found.control = partial.control;
    return found;
  }

  using Index = __m256i;  // 32 bytes
  static constexpr bool kPairs = false;

  template <int kBits, bool kPartial>
  static HWY_INLINE void advance(State& s, const RansRow& row, const std::byte*& at, Index& bytes,
                                 std::uint32_t lanes) {
    __m256i low[2], high[2], renew[2], index[2], here[2];
    HWY_UNROLL(2)
    for (int half = 0; half < 2; ++half) {
      if constexpr (kPartial) here[half] = from_mask(lanes, half);
      const __m256i slot = _mm256_and_si256(s.low[half], _mm256_set1_epi16(0x0FFF));
      const Entry<kBits> found = search<kBits>(slot, row, index[half]);
      const __m256i scaled = found.fetch(row.scaled);
      const __m256i start = found.fetch(row.start);
      // As in rans_avx512.cc.
      const __m256i top =
          _mm256_and_si256(s.low[half], _mm256_set1_epi16(static_cast<short>(0xF000)));
      const __m256i small =
          _mm256_add_epi16(_mm256_mulhi_epu16(scaled, top), _mm256_sub_epi16(slot, start));
      low[half] = _mm256_add_epi16(_mm256_mullo_epi16(scaled, s.high[half]), small);
      const __m256i no_carry = at_least(low[half], small);
      high[half] = _mm256_add_epi16(_mm256_mulhi_epu16(scaled, s.high[half]),
                                    _mm256_add_epi16(no_carry, _mm256_set1_epi16(1)));
      renew[half] = _mm256_cmpeq_epi16(high[half], _mm256_setzero_si256());
      if constexpr (kPartial) renew[half] = _mm256_and_si256(renew[half], here[half]);
    }

    const std::uint32_t mask = to_mask(renew[0], renew[1]);
    __m128i fresh[4];
    HWY_UNROLL(4)
    for (unsigned group = 0; group < 4; ++group) {
      fresh[group] = _mm_shuffle_epi8(load16(at + bytes_before(mask, group)),
                                      load16(&kShuffles.expand[mask >> (8 * group) & 0xFF]));
    }
    at += bytes_before(mask, 4);
    HWY_UNROLL(2)
    for (int half = 0; half < 2; ++half) {
      const __m256i words = join(fresh[half], fresh[half + 2]);
      if constexpr (kPartial) {
        s.high[half] = select(here[half], select(renew[half], low[half], high[half]), s.high[half]);
        s.low[half] = select(here[half], select(renew[half], words, low[half]), s.low[half]);
      } else {
        s.high[half] = select(renew[half], low[half], high[half]);
        s.low[half] = select(renew[half], words, low[half]);
      }
    }
    bytes = _mm256_packus_epi16(index[0], index[1]);
  }

  template <int kBits, bool kPartial>
  static HWY_INLINE void write(const RansRow& row, __m256i bytes, std::int8_t* out,
                               std::uint32_t* escape_lanes, std::uint32_t lanes) {
    const __m256i escape = _mm256_cmpeq_epi8(bytes, _mm256_setzero_si256());
    const __m256i half_n = _mm256_set1_epi8(static_cast<char>(row.symbols / 2));
    __m256i value = select(escape, _mm256_set1_epi8(kRansEscape), _mm256_sub_epi8(half_n, bytes));
    *escape_lanes = static_cast<std::uint32_t>(_mm256_movemask_epi8(escape)) & lanes;
    if constexpr (kPartial) {
      value = _mm256_and_si256(value, _mm256_packs_epi16(from_mask(lanes, 0), from_mask(lanes, 1)));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), value);
  }
  template <int kBits>
  static HWY_INLINE void write_pair(const RansRow&, __m256i, std::int8_t*, std::uint32_t*) {}

  static constexpr int encode_bits(int bits) { return std::max(bits, 3); }

  template <int kBits, bool kPartial>
  static HWY_INLINE std::byte* encode(State& s, const RansRow& row, std::byte* at,
                                      const std::int8_t* values, std::uint32_t lanes) {
    __m256i full[2], scaled[2];
    Entry<kBits> index[2];
    HWY_UNROLL(2)
    for (int half = 0; half < 2; ++half) {
      const __m128i bytes = _mm_set_epi64x(static_cast<long long>(load8(values + 16 + 8 * half)),
                                           static_cast<long long>(load8(values + 8 * half)));
      const __m256i value = _mm256_cvtepi8_epi16(bytes);
      const __m256i i = _mm256_subs_epu16(twice(row.last.data()),
                                          _mm256_add_epi16(value, twice(row.below.data())));
      index[half].control = _mm256_add_epi16(_mm256_mullo_epi16(i, _mm256_set1_epi16(0x0202)),
                                             _mm256_set1_epi16(0x0100));
      if constexpr (kBits > 3) {
        index[half].bit3 = _mm256_srai_epi16(_mm256_slli_epi16(i, 12), 15);
      }
      if constexpr (kBits > 4) {
        index[half].bit4 = _mm256_srai_epi16(_mm256_slli_epi16(i, 11), 15);
      }
      scaled[half] = index[half].fetch(row.scaled);
      full[half] = at_least(s.high[half], scaled[half]);
      if constexpr (kPartial) full[half] = _mm256_and_si256(full[half], from_mask(lanes, half));
    }
    const std::uint32_t mask = to_mask(full[0], full[1]);
    HWY_UNROLL(4)
    for (int group = 3; group >= 0; --group) {
      const __m256i half = s.low[group & 1];
      const __m128i low =
          group < 2 ? _mm256_castsi256_si128(half) : _mm256_extracti128_si256(half, 1);
      const std::uint32_t mine = mask >> (8 * group) & 0xFF;
      _mm_storeu_si128(reinterpret_cast<__m128i*>(at - 16),
                       _mm_shuffle_epi8(low, load16(&kShuffles.gather_high[mine])));
      at -= 2 * static_cast<std::size_t>(_mm_popcnt_u32(mine));
    }
    HWY_UNROLL(2)
    for (int half = 0; half < 2; ++half)
      divide<kBits, kPartial>(s, row, index[half], scaled[half], full[half], half, lanes);
    return at;
  }

 private:
  static HWY_INLINE std::uint64_t load8(const void* p) {
    std::uint64_t x;
    std::memcpy(&x, p, sizeof(x));
    return x;
  }

  // The new states of a half. As in rans_avx512.cc, with products where there is no shift by lane.
  template <int kBits, bool kPartial>
  static HWY_INLINE void divide(State& s, const RansRow& row, const Entry<kBits>& index,
                                __m256i scaled, __m256i full, int half, std::uint32_t lanes) {
    const __m256i x_low = select(full, s.high[half], s.low[half]);
    const __m256i x_high = _mm256_andnot_si256(full, s.high[half]);
    const __m256i power = index.fetch(row.power);
    const __m256i reciprocal = index.fetch(row.reciprocal);
    const __m256i u1 =
        _mm256_or_si256(_mm256_mullo_epi16(x_high, power), _mm256_mulhi_epu16(x_low, power));
    const __m256i u0 = _mm256_mullo_epi16(x_low, power);
    const __m256i divisor = _mm256_mullo_epi16(scaled, power);
    const __m256i one = _mm256_set1_epi16(1);
    const __m256i fraction = _mm256_add_epi16(_mm256_mullo_epi16(reciprocal, u1), u0);
    // Masks are -1: adding "no carry" to one more is adding the carry.
    __m256i quotient = _mm256_add_epi16(
        _mm256_add_epi16(_mm256_mulhi_epu16(reciprocal, u1), _mm256_add_epi16(u1, one)),
        at_least(fraction, u0));
    __m256i rest = _mm256_sub_epi16(u0, _mm256_mullo_epi16(quotient, divisor));
    const __m256i over = _mm256_sub_epi16(rest, divisor);
    const __m256i more = at_least(fraction, over);
    quotient = _mm256_sub_epi16(quotient, more);
    rest = select(more, over, rest);
    const __m256i still = at_least(rest, divisor);
    quotient = _mm256_sub_epi16(quotient, still);
    rest = _mm256_sub_epi16(rest, _mm256_and_si256(still, divisor));

    const __m256i sixteenth = _mm256_srli_epi16(divisor, 4);
    __m256i last = _mm256_srli_epi16(_mm256_mulhi_epu16(rest, index.fetch(row.digit)), 11);
    rest = _mm256_sub_epi16(rest, _mm256_mullo_epi16(last, sixteenth));
    last = _mm256_sub_epi16(last, at_least(rest, sixteenth));
    // x mod f without a shift: x - quotient * 16 f - last * f, which fits 16 bits.
    const __m256i remainder =
        _mm256_sub_epi16(_mm256_sub_epi16(x_low, _mm256_mullo_epi16(quotient, scaled)),
                         _mm256_mullo_epi16(last, _mm256_srli_epi16(scaled, 4)));
    const __m256i low = _mm256_add_epi16(_mm256_slli_epi16(last, 12),
                                         _mm256_add_epi16(remainder, index.fetch(row.start)));
    if constexpr (kPartial) {
      const __m256i here = from_mask(lanes, half);
      s.high[half] = select(here, quotient, s.high[half]);
      s.low[half] = select(here, low, s.low[half]);
    } else {
      s.high[half] = quotient;
      s.low[half] = low;
    }
  }
};

#include "kv/kernels/rans_lockstep.hh"

}  // namespace

void decode(const RansTables& tables, std::span<RansDecodeJob> jobs) {
  rans_set_last_target(RansTarget::kAvx2);
  decode_all(tables, jobs);
}

void encode(const RansTables& tables, std::span<const RansEncodeJob> jobs) {
  rans_set_last_target(RansTarget::kAvx2);
  encode_all(tables, jobs);
}

}  // namespace kv::avx2
HWY_POP_ATTRIBUTES
#endif
