#pragma once
// Element types and tensor views over bytes that somebody else owns.

#include "kv/base/bytes.hh"

#include <array>
#include <cstdint>
#include <string_view>

namespace kv {

// The numbers stand in files: never change one. fp8 as in OCP OFP8 1.0: e4m3fn and e5m2.
enum class DType : std::uint8_t {
  kF32 = 1,
  kF16 = 2,
  kBF16 = 3,
  kF8E4M3 = 4,
  kF8E5M2 = 5,
  kI8 = 6
};

constexpr std::size_t dtype_size_bytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kF8E4M3:
    case DType::kF8E5M2:
    case DType::kI8:
      return 1;
  }
  return 0;
}

// "f32", "f16", "bf16", "fp8_e4m3", "fp8_e5m2", "int8".
std::string_view dtype_name(DType dtype);
// Throws kUsage.
DType parse_dtype(std::string_view name);
// Whether the number is one of the enum's.
bool dtype_known(std::uint8_t number);

// Conversions of whole rows, round to nearest even; fp8 saturates to the largest finite value.
// int8 is only stored, never converted (its scale is the codec's business): throws kUsage.
void convert(ByteView from, DType from_type, std::span<std::byte> to, DType to_type);
// One number, as convert() does it: what a codec keeps as a scale.
std::uint16_t f16_bits(float value);
float f16_value(std::uint16_t bits);

// Row-major [tokens][heads][dim] over borrowed bytes; the tokens of a view may be sliced.
struct TensorView {
  DType dtype = DType::kBF16;
  std::array<std::int64_t, 3> shape{};  // tokens, heads, dim
  ByteView bytes;

  std::int64_t row_values() const { return shape[1] * shape[2]; }
  std::size_t row_bytes() const {
    return static_cast<std::size_t>(row_values()) * dtype_size_bytes(dtype);
  }
  // Tokens [first, first + count); both within the view.
  TensorView tokens(std::int64_t first, std::int64_t count) const;
  // Typed elements; T's size is the dtype's and `bytes` is aligned for it (readers see to it).
  template <typename T>
  std::span<const T> as() const {
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
  }
};

}  // namespace kv
