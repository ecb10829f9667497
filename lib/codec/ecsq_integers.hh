#pragma once
// The integers of a tile of `ecsq`, as a tile of `clp` has them: this file's alone to know how.
// Private to the folder.

#include "clp_stream.hh"

#include <cstdint>
#include <string>
#include <vector>

namespace kv {

// [coefficients][tokens]; those of exact tokens are 0.
using Integers = std::vector<std::int16_t>;

// -127 to 127. Those that no class codes become 0, as a decoder will see them.
Bytes write_integers(const TensorProfile& classes, const TileSteps& steps, ByteView exact_rows,
                     Integers& integers);

// Reads what write_integers() wrote: steps, exact rows as views into the data, and coefficients,
// in quads below code.plan->used() alone: the others are 0. Throws kInput, with `place`.
void read_integers(const TensorProfile& classes, std::int64_t tokens, std::size_t row_bytes,
                   ByteView data, const std::string& place, TileCode& code);
// Of so many coefficients, as refinements take them.
Integers integers_of(const TileCode& code, std::int64_t coefficients);

}  // namespace kv
