#pragma once
// Which class codes a channel's integers in the fewest bits.

#include "kv/codec/classes.hh"

#include <cstdint>
#include <optional>
#include <span>

namespace kv {

// How often a value occurs in tokens of one step.
struct ValueCount {
  int half_octaves = 0;  // of the step, beside the tile's
  int value = 0;         // -127 to 127
  std::uint32_t count = 0;
};

struct ClassChoice {
  Shape shape = Shape::kGauss;
  int sigma = 0;    // at the tile's step
  double bits = 0;  // of all that was counted
};
// Of places `least` to `most`, near `deviation`; unset: near that of the values as they are
// counted, which rounding to 0 makes narrower.
ClassChoice choose_class(std::span<const ValueCount> counts, int least, int most,
                         std::optional<int> deviation = {});

}  // namespace kv
