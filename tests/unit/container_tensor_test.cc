#include "kv/container/tensor.hh"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

using namespace kv;

namespace {

struct Format {
  DType dtype;
  int exponent_bits, mantissa_bits;
  bool infinite;  // IEEE's top exponent; else only all ones is NaN
  bool saturates;
};
constexpr std::array<Format, 4> kFormats = {{{DType::kF16, 5, 10, true, false},
                                             {DType::kBF16, 8, 7, true, false},
                                             {DType::kF8E4M3, 4, 3, false, true},
                                             {DType::kF8E5M2, 5, 2, true, true}}};

// The value of a bit pattern, from the definition of such formats.
double value_of(const Format& format, std::uint32_t bits) {
  const std::uint32_t top = (1u << format.exponent_bits) - 1;
  const std::uint32_t ones = (1u << format.mantissa_bits) - 1;
  const std::uint32_t exponent = (bits >> format.mantissa_bits) & top, mantissa = bits & ones;
  const int bias = static_cast<int>(top / 2);
  const double sign = (bits >> (format.exponent_bits + format.mantissa_bits)) & 1u ? -1.0 : 1.0;
  if (exponent == top && format.infinite) {
    return mantissa == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == top && mantissa == ones) return std::numeric_limits<double>::quiet_NaN();
  const double fraction = std::ldexp(mantissa, -format.mantissa_bits);
  return sign * (exponent == 0 ? std::ldexp(fraction, 1 - bias)
                               : std::ldexp(1 + fraction, static_cast<int>(exponent) - bias));
}

template <typename To, typename From>
std::vector<To> converted(const std::vector<From>& from, DType from_type, DType to_type) {
  std::vector<To> to(from.size());
  convert(std::as_bytes(std::span(from)), from_type, std::as_writable_bytes(std::span(to)),
          to_type);
  return to;
}

std::vector<std::uint32_t> narrowed(const std::vector<float>& values, const Format& format) {
  std::vector<std::uint32_t> bits;
  if (dtype_size_bytes(format.dtype) == 2) {
    for (const auto v : converted<std::uint16_t>(values, DType::kF32, format.dtype))
      bits.push_back(v);
  } else {
    for (const auto v : converted<std::uint8_t>(values, DType::kF32, format.dtype))
      bits.push_back(v);
  }
  return bits;
}

std::vector<float> widened(const Format& format) {
  const std::uint32_t count = 1u << (8 * dtype_size_bytes(format.dtype));
  if (dtype_size_bytes(format.dtype) == 2) {
    std::vector<std::uint16_t> all(count);
    for (std::uint32_t i = 0; i < count; ++i) all[i] = static_cast<std::uint16_t>(i);
    return converted<float>(all, format.dtype, DType::kF32);
  }
  std::vector<std::uint8_t> all(count);
  for (std::uint32_t i = 0; i < count; ++i) all[i] = static_cast<std::uint8_t>(i);
  return converted<float>(all, format.dtype, DType::kF32);
}

// Nearest by search over all finite magnitudes; ties go to the even pattern.
std::uint32_t nearest(const Format& format, const std::vector<double>& finite, float value) {
  const std::uint32_t sign =
      std::signbit(value) ? 1u << (format.exponent_bits + format.mantissa_bits) : 0u;
  const double magnitude = std::fabs(static_cast<double>(value));
  const auto largest = static_cast<std::uint32_t>(finite.size() - 1);
  const auto above = static_cast<std::uint32_t>(
      std::lower_bound(finite.begin(), finite.end(), magnitude) - finite.begin());
  if (above == 0) return sign;
  if (above > largest) {
    // Where the next number would be decides what rounds up to infinity.
    const double step = finite[largest] - finite[largest - 1];
    const bool overflows = magnitude >= finite[largest] + step / 2;
    return sign | (overflows && !format.saturates ? largest + 1 : largest);
  }
  const double up = finite[above] - magnitude, down = magnitude - finite[above - 1];
  if (up == down) return sign | (above % 2 == 0 ? above : above - 1);
  return sign | (up < down ? above : above - 1);
}

}  // namespace

TEST_CASE("every bit pattern widens to its value") {
  for (const Format& format : kFormats) {
    CAPTURE(dtype_name(format.dtype));
    const std::vector<float> values = widened(format);
    std::size_t wrong = 0;
    for (std::uint32_t bits = 0; bits < values.size(); ++bits) {
      const double expected = value_of(format, bits);
      const bool same =
          std::isnan(expected)
              ? std::isnan(values[bits])
              : values[bits] == expected && std::signbit(values[bits]) == std::signbit(expected);
      wrong += same ? 0 : 1;
    }
    CHECK(wrong == 0);
    // And back: all numbers return, NaN stays NaN with its sign.
    const std::vector<std::uint32_t> back = narrowed(values, format);
    for (std::uint32_t bits = 0; bits < values.size(); ++bits) {
      const double expected = value_of(format, bits);
      if (std::isnan(expected)) {
        wrong += std::isnan(value_of(format, back[bits])) ? 0 : 1;
      } else if (std::isinf(expected) && format.saturates) {
        wrong += std::isfinite(value_of(format, back[bits])) ? 0 : 1;
      } else {
        wrong += back[bits] == bits ? 0 : 1;
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("narrowing rounds to nearest even") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const Format& format : kFormats) {
    CAPTURE(dtype_name(format.dtype));
    std::vector<double> finite;
    for (std::uint32_t bits = 0; std::isfinite(value_of(format, bits)); ++bits) {
      finite.push_back(value_of(format, bits));
    }
    std::vector<float> values = {0.0f,
                                 -0.0f,
                                 kInf,
                                 -kInf,
                                 std::numeric_limits<float>::max(),
                                 std::numeric_limits<float>::denorm_min()};
    for (std::size_t i = 0; i + 1 < finite.size(); ++i) {
      const auto middle = static_cast<float>((finite[i] + finite[i + 1]) / 2);
      for (const float value :
           {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, kInf)}) {
        values.push_back(value);
        values.push_back(-value);
      }
    }
    const double end = finite.back(), step = end - finite[finite.size() - 2];
    for (const double value : {end + step / 2, end + step / 4, end + step, end * 1.5}) {
      const auto edge = static_cast<float>(value);
      values.insert(values.end(), {edge, std::nextafter(edge, 0.0f), -edge});
    }
    std::mt19937 random(7);
    for (int i = 0; i < 300000; ++i) {
      const float value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
      if (!std::isnan(value)) values.push_back(value);
    }
    const std::vector<std::uint32_t> bits = narrowed(values, format);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::uint32_t expected = nearest(format, finite, values[i]);
      if (bits[i] != expected && wrong++ < 5) {
        CAPTURE(values[i]);
        CHECK(bits[i] == expected);
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("NaN stays NaN, unaligned bytes are taken, int8 and odd sizes refused") {
  for (const Format& format : kFormats) {
    std::vector<float> nans;
    for (const std::uint32_t bits : {0x7F800001u, 0x7FFFFFFFu, 0xFF800001u, 0x7FC00000u}) {
      nans.push_back(std::bit_cast<float>(bits));
    }
    for (const std::uint32_t bits : narrowed(nans, format)) {
      CHECK(std::isnan(value_of(format, bits)));
    }
  }
  Bytes from(1 + 4 * 3000), to(1 + 2 * 3000);
  for (std::size_t i = 0; i < 3000; ++i) {
    const auto value = static_cast<float>(i % 200);
    std::memcpy(from.data() + 1 + 4 * i, &value, 4);
  }
  convert(ByteView(from).subspan(1), DType::kF32, std::span(to).subspan(1), DType::kBF16);
  convert(ByteView(to).subspan(1), DType::kBF16, std::span(from).subspan(1), DType::kF32);
  for (std::size_t i = 0; i < 3000; ++i) {
    float value;
    std::memcpy(&value, from.data() + 1 + 4 * i, 4);
    CHECK(value == static_cast<float>(i % 200));
  }
  CHECK_THROWS_AS(convert(ByteView(from).first(4), DType::kI8, std::span(to).first(8), DType::kF16),
                  Error);
  CHECK_THROWS_AS(
      convert(ByteView(from).first(4), DType::kF32, std::span(to).first(4), DType::kF16),
      std::logic_error);
  convert(ByteView(from).first(4), DType::kI8, std::span(to).first(4), DType::kI8);
  convert({}, DType::kF32, {}, DType::kF16);
}

TEST_CASE("names") {
  for (std::uint8_t number = 0; number < 255; ++number) {
    if (!dtype_known(number)) continue;
    const auto dtype = static_cast<DType>(number);
    CHECK(parse_dtype(dtype_name(dtype)) == dtype);
  }
  CHECK_THROWS_AS(parse_dtype("f64"), Error);
}

TEST_CASE("slices of tokens") {
  Bytes bytes(5 * 2 * 3 * 2);
  const TensorView view{DType::kBF16, {5, 2, 3}, bytes};
  const TensorView part = view.tokens(1, 3);
  CHECK(part.bytes.data() == bytes.data() + 12);
  CHECK(part.bytes.size() == 36);
  CHECK(part.shape[0] == 3);
  CHECK(view.tokens(5, 0).bytes.empty());
  CHECK_THROWS_AS(view.tokens(3, 3), std::logic_error);
  CHECK_THROWS_AS(view.tokens(-1, 1), std::logic_error);
}
