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

struct ReadIntegers {
  TileSteps steps;
  Integers integers;
  ByteView exact_rows;  // of steps.exact, views into the data
};
// `coefficients` is at most those of the classes, which are whole quads. Throws kInput, with
// `place`.
ReadIntegers read_integers(const TensorProfile& classes, std::int64_t coefficients,
                           std::int64_t tokens, std::size_t row_bytes, ByteView data,
                           const std::string& place);

}  // namespace kv
