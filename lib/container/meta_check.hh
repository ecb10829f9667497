#pragma once
// What kv(5) asks of a META beyond the types of its fields; the reader refuses and the writer
// rejects by the same rules.

#include "kv/container/meta.hh"

#include <cstdint>
#include <string>

namespace kv {

inline constexpr std::int64_t kMaxJsonInteger = (std::int64_t{1} << 53) - 1;  // exact in a double
inline constexpr std::int64_t kMaxRowValues = 1 << 24;  // heads * dim: a raw row fits in a frame
inline constexpr std::int64_t kMaxQualityLayers = 256;

// Empty when all is well.
std::string problem_of(const Meta& meta);

// "K", or the number of a kind that is none.
std::string kind_text(format::Kind kind);
// Text from a file, for a message: quoted, escaped and cut, so that it stays one line.
std::string printable(std::string_view text);

}  // namespace kv
