// Lookups in registers for rans_avx2.cc, which includes this inside its namespace and its target
// attributes: no header of its own.

// For each set of 8 lanes the byte shuffle that brings words 0, 1, ... to those lanes (expand), or
// the words of those lanes to the end (gather_high). 0x80 is zero.
struct Shuffles {
  alignas(64) std::array<std::array<std::uint8_t, 16>, 256> expand, gather_high;
};

constexpr Shuffles make_shuffles() {
  Shuffles s{};
  for (unsigned mask = 0; mask < 256; ++mask) {
    const unsigned count = static_cast<unsigned>(std::popcount(mask));
    for (unsigned byte = 0; byte < 16; ++byte) {
      s.expand[mask][byte] = s.gather_high[mask][byte] = 0x80;
    }
    for (unsigned lane = 0, used = 0; lane < 8; ++lane) {
      if (!(mask >> lane & 1)) continue;
      for (unsigned byte = 0; byte < 2; ++byte) {
        s.expand[mask][2 * lane + byte] = static_cast<std::uint8_t>(2 * used + byte);
        s.gather_high[mask][16 - 2 * count + 2 * used + byte] =
            static_cast<std::uint8_t>(2 * lane + byte);
      }
      ++used;
    }
  }
  return s;
}

constexpr Shuffles kShuffles = make_shuffles();

HWY_INLINE __m128i load16(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
HWY_INLINE __m256i twice(const std::uint16_t* words) {
  return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(words)));
}
HWY_INLINE __m256i join(__m128i low, __m128i high) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}
// All ones where a >= b, unsigned.
HWY_INLINE __m256i at_least(__m256i a, __m256i b) {
  return _mm256_cmpeq_epi16(_mm256_max_epu16(a, b), a);
}
HWY_INLINE __m256i select(__m256i mask, __m256i yes, __m256i no) {
  return _mm256_blendv_epi8(no, yes, mask);
}

// An index as what pshufb takes to fetch 16-bit entries, modulo 8; and, for more entries than 8,
// the bits above as masks.
template <int kBits>
struct Entry {
  __m256i control;
  __m256i bit3, bit4;  // of kBits > 3, > 4

  template <std::size_t kEntriesBits = kBits>
  HWY_INLINE __m256i fetch(const RansRow::Words& words) const {
    const std::uint16_t* w = words.data();
    const __m256i first = _mm256_shuffle_epi8(twice(w), control);
    if constexpr (kEntriesBits <= 3) return first;
    const __m256i low = select(bit3, _mm256_shuffle_epi8(twice(w + 8), control), first);
    if constexpr (kEntriesBits <= 4) return low;
    const __m256i high = select(bit3, _mm256_shuffle_epi8(twice(w + 24), control),
                                _mm256_shuffle_epi8(twice(w + 16), control));
    return select(bit4, high, low);
  }
};
