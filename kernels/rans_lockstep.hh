// Decoding and encoding of up to four streams in lockstep, around a target's step. No header of its
// own: each target includes it inside its namespace and its target attributes, after a class Step.
//
// One stream alone waits for its own results most of the time; four fill the gaps of each other.

constexpr int kStreams = 4;

HWY_INLINE std::uint32_t step_bits(const RansStep* step) {
  std::uint32_t bits;
  std::memcpy(&bits, step, sizeof(bits));
  return bits;
}

// The table and lanes of the steps that K streams are at, and whether a run of kBits and kPartial
// may take them: kBits are those of the largest table; kPartial: some stream has idle lanes.
template <int K>
struct Now {
  std::uint32_t bits[K], lanes[K];
  const RansRow* row[K];
  int most_bits;
  bool partial;

  template <typename Slot>
  HWY_INLINE void look(Slot* const* slots, const RansRow* rows, std::ptrdiff_t step) {
    most_bits = 0;
    partial = false;
    HWY_UNROLL(4)
    for (int k = 0; k < K; ++k) {
      const RansStep* at = slots[k]->step + step;
      bits[k] = step_bits(at);
      row[k] = rows + at->table;
      lanes[k] = 0xFFFFFFFFu >> (kRansLanes - at->lanes);
      most_bits = std::max<int>(most_bits, row[k]->bits);
      partial |= at->lanes != kRansLanes;
    }
  }
  template <typename Slot>
  HWY_INLINE bool same(Slot* const* slots, std::ptrdiff_t step) const {
    bool all = true;
    HWY_UNROLL(4)
    for (int k = 0; k < K; ++k) all = all && step_bits(slots[k]->step + step) == bits[k];
    return all;
  }
};

#include "kv/kernels/rans_lockstep_decode.hh"
#include "kv/kernels/rans_lockstep_encode.hh"
