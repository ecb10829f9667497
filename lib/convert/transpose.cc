#include "transpose.hh"

#include <algorithm>
#include <array>

namespace kv {
namespace {

struct Matrix {
  const std::byte* from;
  std::size_t from_stride;
  std::byte* to;
  std::size_t to_stride;

  void copy(std::size_t row, std::size_t column, std::size_t element) const {
    std::memcpy(to + column * to_stride + row * element,
                from + row * from_stride + column * element, element);
  }
};

// 16 bytes: what every processor of the kind has, which memory keeps busy already. Of two the
// elements by turns, those of the lower halves and those of the upper; and the even and the odd.
template <std::size_t kElement>
struct Vector;

template <>
struct Vector<2> {
  using Type [[gnu::vector_size(16)]] = std::uint16_t;
  static constexpr std::size_t kCount = 8;
  static Type lower(Type a, Type b) {
    return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  }
  static Type upper(Type a, Type b) {
    return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  }
  static Type even(Type a, Type b) {
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
  }
  static Type odd(Type a, Type b) {
    return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
  }
};

template <>
struct Vector<4> {
  using Type [[gnu::vector_size(16)]] = std::uint32_t;
  static constexpr std::size_t kCount = 4;
  static Type lower(Type a, Type b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
  static Type upper(Type a, Type b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
  static Type even(Type a, Type b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6); }
  static Type odd(Type a, Type b) { return __builtin_shufflevector(a, b, 1, 3, 5, 7); }
};

template <typename V>
typename V::Type load(const std::byte* from) {
  typename V::Type value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
template <typename V>
void store(typename V::Type value, std::byte* to) {
  std::memcpy(to, &value, sizeof(value));
}

// A square of as many rows as a vector has elements: each step takes row i and the one half the
// side behind it by turns.
template <std::size_t kElement>
void square(const Matrix& m, std::size_t row, std::size_t column) {
  using V = Vector<kElement>;
  constexpr std::size_t kSide = V::kCount;
  std::array<typename V::Type, kSide> a, b;
  for (std::size_t i = 0; i < kSide; ++i) {
    a[i] = load<V>(m.from + (row + i) * m.from_stride + column * kElement);
  }
  for (std::size_t step = 1; step < kSide; step *= 2) {
    for (std::size_t i = 0; i < kSide / 2; ++i) {
      b[2 * i] = V::lower(a[i], a[i + kSide / 2]);
      b[2 * i + 1] = V::upper(a[i], a[i + kSide / 2]);
    }
    a = b;
  }
  for (std::size_t i = 0; i < kSide; ++i) {
    store<V>(a[i], m.to + (column + i) * m.to_stride + row * kElement);
  }
}

// Two rows to pairs.
template <std::size_t kElement>
void to_pairs(const Matrix& m, std::size_t columns) {
  using V = Vector<kElement>;
  std::size_t i = 0;
  for (; i + V::kCount <= columns; i += V::kCount) {
    const auto a = load<V>(m.from + i * kElement);
    const auto b = load<V>(m.from + m.from_stride + i * kElement);
    store<V>(V::lower(a, b), m.to + 2 * i * kElement);
    store<V>(V::upper(a, b), m.to + 2 * i * kElement + 16);
  }
  for (; i < columns; ++i) {
    m.copy(0, i, kElement);
    m.copy(1, i, kElement);
  }
}

// Pairs to two rows.
template <std::size_t kElement>
void from_pairs(const Matrix& m, std::size_t rows) {
  using V = Vector<kElement>;
  std::size_t i = 0;
  for (; i + V::kCount <= rows; i += V::kCount) {
    const auto a = load<V>(m.from + 2 * i * kElement);
    const auto b = load<V>(m.from + 2 * i * kElement + 16);
    store<V>(V::even(a, b), m.to + i * kElement);
    store<V>(V::odd(a, b), m.to + m.to_stride + i * kElement);
  }
  for (; i < rows; ++i) {
    m.copy(i, 0, kElement);
    m.copy(i, 1, kElement);
  }
}

template <std::size_t kElement>
void transpose_of(const Matrix& m, std::size_t rows, std::size_t columns) {
  if (rows == 2 && m.to_stride == 2 * kElement) return to_pairs<kElement>(m, columns);
  if (columns == 2 && m.from_stride == 2 * kElement) return from_pairs<kElement>(m, rows);
  // Whole lines of the processor's cache on the way out, as far as they are.
  constexpr std::size_t kSide = Vector<kElement>::kCount, kLine = 64 / kElement;
  const std::size_t whole_rows = rows / kSide * kSide, whole_columns = columns / kSide * kSide;
  for (std::size_t begin = 0; begin < whole_rows; begin += kLine) {
    for (std::size_t column = 0; column < whole_columns; column += kSide) {
      for (std::size_t row = begin; row < std::min(begin + kLine, whole_rows); row += kSide) {
        square<kElement>(m, row, column);
      }
    }
  }
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t column = row < whole_rows ? whole_columns : 0; column < columns; ++column) {
      m.copy(row, column, kElement);
    }
  }
}

}  // namespace

void transpose(const std::byte* from, std::size_t from_stride, std::size_t rows,
               std::size_t columns, std::size_t element_bytes, std::byte* to,
               std::size_t to_stride) {
  const Matrix m = {from, from_stride, to, to_stride};
  if (element_bytes == 2) return transpose_of<2>(m, rows, columns);
  if (element_bytes == 4) return transpose_of<4>(m, rows, columns);
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t column = 0; column < columns; ++column) m.copy(row, column, element_bytes);
  }
}

}  // namespace kv
