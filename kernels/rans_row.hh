#pragma once
// What a table looks like to the kernels. Internal to kernels/.
//
// Symbols are counted from the top: index i is symbol n - 1 - i, so index 0 is the escape and the
// value is n / 2 - i. Then the bits of the index, highest first, are the answers to "is the slot
// below this bound?", which is the sign of a difference and needs no comparison. All arrays repeat
// themselves to 32 entries, so that bits above the index do not matter.

#include "kv/kernels/rans.hh"

#include <array>

namespace kv {

struct alignas(64) RansRow {
  using Words = std::array<std::uint16_t, kRansLanes>;

  // split[b][p]: the bound that decides bit b of an index whose higher bits are p. For b beyond the
  // table's bits it is 0: the answer is no, so a shallow table can be searched with deep ones.
  alignas(64) std::array<Words, 5> split;
  alignas(64) Words scaled;  // 16 f: a state below scaled << 16 takes the symbol without a word
  alignas(64) Words start;   // c, the sum of the frequencies of lower symbols

  // Encoding divides a state by 16 f: with a 16-bit divisor whose highest bit is set, by way of its
  // reciprocal (Moeller and Granlund, "Improved division by invariant integers").
  alignas(64) Words shift;       // scaled << shift has its highest bit set
  alignas(64) Words power;       // 1 << shift
  alignas(64) Words reciprocal;  // floor((2^32 - 1) / divisor) - 2^16
  alignas(64) Words digit;       // floor(2^31 / divisor), at most 2^16 - 1: the last 4 bits

  alignas(64) Words half;   // n / 2
  alignas(64) Words below;  // n / 2 - 1, the size of the range below 0
  alignas(64) Words last;   // n - 1

  alignas(64) std::uint16_t symbols;  // n
  std::uint16_t bits;                 // log2 n

  std::uint32_t frequency(unsigned index) const { return scaled[index] >> 4; }
  unsigned index_of(int value) const {
    const int index = symbols / 2 - value;
    return index < 1 || index >= symbols ? 0 : static_cast<unsigned>(index);
  }
};

// Each target's own code; they set the thread's last target.
namespace scalar {
void decode(const RansTables& tables, std::span<RansDecodeJob> jobs);
void encode(const RansTables& tables, std::span<const RansEncodeJob> jobs);
}  // namespace scalar
namespace avx2 {
void decode(const RansTables& tables, std::span<RansDecodeJob> jobs);
void encode(const RansTables& tables, std::span<const RansEncodeJob> jobs);
}  // namespace avx2
namespace avx512 {
void decode(const RansTables& tables, std::span<RansDecodeJob> jobs);
void encode(const RansTables& tables, std::span<const RansEncodeJob> jobs);
}  // namespace avx512

void rans_set_last_target(RansTarget target);

// Steps that a decoder may follow: tables that exist, 1 to 32 lanes, not too many.
bool rans_valid_steps(const RansTables& tables, std::span<const RansStep> steps);

}  // namespace kv
