#pragma once
// Elements in another order. Private to the folder.

#include "kv/base/bytes.hh"

#include <algorithm>
#include <type_traits>

namespace kv {

// Pieces of `size_bytes` as a matrix [rows][columns] to [columns][rows].
inline void transpose(ByteView from, std::size_t rows, std::size_t columns, std::size_t size_bytes,
                      std::span<std::byte> to) {
  const auto copy = [&]<std::size_t kSize>(std::integral_constant<std::size_t, kSize>) {
    // Squares of which the first-level cache holds all lines, also where rows lie 2^n apart.
    constexpr std::size_t kSide = 16;
    for (std::size_t r0 = 0; r0 < rows; r0 += kSide) {
      for (std::size_t c0 = 0; c0 < columns; c0 += kSide) {
        for (std::size_t c = c0; c < std::min(columns, c0 + kSide); ++c) {
          for (std::size_t r = r0; r < std::min(rows, r0 + kSide); ++r) {
            const std::size_t size = kSize > 0 ? kSize : size_bytes;
            std::memcpy(&to[(c * rows + r) * size], &from[(r * columns + c) * size], size);
          }
        }
      }
    }
  };
  if (size_bytes == 2) return copy(std::integral_constant<std::size_t, 2>());
  if (size_bytes == 4) return copy(std::integral_constant<std::size_t, 4>());
  copy(std::integral_constant<std::size_t, 0>());
}

}  // namespace kv
