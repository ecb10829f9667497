#pragma once
// Elements in another order. Private to the folder.

#include "kv/base/bytes.hh"

namespace kv {

// A matrix [rows][columns] of elements to [columns][rows]; the rows of either lie a stride of bytes
// apart. They do not overlap.
void transpose(const std::byte* from, std::size_t from_stride, std::size_t rows,
               std::size_t columns, std::size_t element_bytes, std::byte* to,
               std::size_t to_stride);

// The same without gaps.
inline void transpose(ByteView from, std::size_t rows, std::size_t columns,
                      std::size_t element_bytes, std::span<std::byte> to) {
  transpose(from.data(), columns * element_bytes, rows, columns, element_bytes, to.data(),
            rows * element_bytes);
}

}  // namespace kv
