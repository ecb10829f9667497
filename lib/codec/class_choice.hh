#pragma once
// Which class codes a channel's integers in the fewest bits. Private to the folder.

#include "kv/codec/classes.hh"

#include <cstdint>
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
  int sigma = 0;  // at the tile's step
};
// Of places `least` to `most`.
ClassChoice choose_class(std::span<const ValueCount> counts, int least, int most);

}  // namespace kv
