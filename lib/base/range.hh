#pragma once

#include <cstdint>

namespace kv {

// Half-open; -1 as the last means "to the end".
struct Range {
  std::int64_t first = 0;
  std::int64_t last = -1;

  bool whole() const { return first == 0 && last < 0; }
  bool contains(std::int64_t i) const { return i >= first && (last < 0 || i < last); }
};

}  // namespace kv
