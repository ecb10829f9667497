#include "kv/container/tensor.hh"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace kv {
namespace {

struct Name {
  DType dtype;
  std::string_view name;
};
constexpr std::array<Name, 6> kNames = {{{DType::kF32, "f32"},
                                         {DType::kF16, "f16"},
                                         {DType::kBF16, "bf16"},
                                         {DType::kF8E4M3, "fp8_e4m3"},
                                         {DType::kF8E5M2, "fp8_e5m2"},
                                         {DType::kI8, "int8"}}};

// A binary float with `kExponent` and `kMantissa` bits, bias 2^(kExponent-1)-1. `kInfinity`:
// the top exponent holds infinity and NaN as in IEEE 754; else (e4m3fn) only mantissa all ones
// there is NaN and the rest are numbers.
template <int kExponent, int kMantissa, bool kInfinity>
struct SmallFloat {
  static constexpr int kBias = (1 << (kExponent - 1)) - 1;
  static constexpr std::uint32_t kTop = (1u << kExponent) - 1;
  static constexpr std::uint32_t kMantissaMask = (1u << kMantissa) - 1;
  static constexpr std::uint32_t kNan =
      (kTop << kMantissa) | (kInfinity ? 1u << (kMantissa - 1) : kMantissaMask);
  static constexpr std::uint32_t kLargest = kInfinity ? ((kTop - 1) << kMantissa) | kMantissaMask
                                                      : (kTop << kMantissa) | (kMantissaMask - 1);

  static float decode(std::uint32_t bits) {
    const bool negative = (bits >> (kExponent + kMantissa)) & 1u;
    const std::uint32_t exponent = (bits >> kMantissa) & kTop;
    const std::uint32_t mantissa = bits & kMantissaMask;
    float value;
    if (exponent == kTop && kInfinity) {
      value = mantissa ? std::numeric_limits<float>::quiet_NaN()
                       : std::numeric_limits<float>::infinity();
    } else if (!kInfinity && exponent == kTop && mantissa == kMantissaMask) {
      value = std::numeric_limits<float>::quiet_NaN();
    } else if (exponent == 0) {
      value = std::ldexp(static_cast<float>(mantissa), 1 - kBias - kMantissa);
    } else {
      value = std::ldexp(static_cast<float>(mantissa | (1u << kMantissa)),
                         static_cast<int>(exponent) - kBias - kMantissa);
    }
    return negative ? -value : value;
  }

  // `saturate`: what is too large, infinity too, becomes the largest finite value (fp8's custom);
  // otherwise it becomes infinity.
  static std::uint32_t encode(float value, bool saturate) {
    const std::uint32_t sign = std::signbit(value) ? 1u << (kExponent + kMantissa) : 0u;
    if (std::isnan(value)) return sign | kNan;
    const float magnitude = std::fabs(value);
    int exponent = 0;
    if (magnitude > 0 && !std::isinf(magnitude)) exponent = std::ilogb(magnitude);
    const int lowest = 1 - kBias;  // exponent of the smallest normal number
    const int scale = kMantissa - std::max(exponent, lowest);
    const std::uint32_t overflow = saturate ? kLargest : kTop << kMantissa;
    if (std::isinf(magnitude) || exponent > kBias + 1) return sign | overflow;
    // Exact: a float times a power of two; nearbyint rounds half to even.
    const auto steps = static_cast<std::uint32_t>(
        std::nearbyint(std::ldexp(static_cast<double>(magnitude), scale)));
    // Adding, not or-ing: rounding up carries from the mantissa into the exponent.
    const std::uint32_t bits =
        exponent < lowest ? steps
                          : steps + (static_cast<std::uint32_t>(exponent + kBias - 1) << kMantissa);
    return sign | (bits > kLargest ? overflow : bits);
  }
};

using E4M3 = SmallFloat<4, 3, false>;
using E5M2 = SmallFloat<5, 2, true>;
using F16 = SmallFloat<5, 10, true>;

float load(const std::byte* at, DType dtype) {
  switch (dtype) {
    case DType::kF32: {
      float value;
      std::memcpy(&value, at, sizeof(value));
      return value;
    }
    case DType::kF16: {
      std::uint16_t bits;
      std::memcpy(&bits, at, sizeof(bits));
      return F16::decode(bits);
    }
    case DType::kBF16: {
      std::uint16_t bits;
      std::memcpy(&bits, at, sizeof(bits));
      return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
    }
    case DType::kF8E4M3:
      return E4M3::decode(std::to_integer<std::uint32_t>(*at));
    case DType::kF8E5M2:
      return E5M2::decode(std::to_integer<std::uint32_t>(*at));
    case DType::kI8:
      break;
  }
  return 0;
}

void store(float value, std::byte* at, DType dtype) {
  std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  switch (dtype) {
    case DType::kF32:
      break;
    case DType::kF16:
      bits = F16::encode(value, false);
      break;
    case DType::kBF16:
      bits =
          std::isnan(value) ? (bits >> 16) | 0x40u : (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
      break;
    case DType::kF8E4M3:
      bits = E4M3::encode(value, true);
      break;
    case DType::kF8E5M2:
      bits = E5M2::encode(value, true);
      break;
    case DType::kI8:
      break;
  }
  std::memcpy(at, &bits, dtype_size_bytes(dtype));
}

}  // namespace

std::string_view dtype_name(DType dtype) {
  for (const Name& entry : kNames) {
    if (entry.dtype == dtype) return entry.name;
  }
  return "unknown";
}

DType parse_dtype(std::string_view name) {
  for (const Name& entry : kNames) {
    if (entry.name == name) return entry.dtype;
  }
  fail_usage("dtype '{}': give f32, f16, bf16, fp8_e4m3, fp8_e5m2 or int8", name);
}

bool dtype_known(std::uint8_t number) { return number >= 1 && number <= kNames.size(); }

void convert(ByteView from, DType from_type, std::span<std::byte> to, DType to_type) {
  if (from_type == to_type) {
    std::memcpy(to.data(), from.data(), from.size());
    return;
  }
  if (from_type == DType::kI8 || to_type == DType::kI8) {
    fail_usage("int8 tensors are not converted; their scale belongs to a codec");
  }
  const std::size_t from_size = dtype_size_bytes(from_type), to_size = dtype_size_bytes(to_type);
  const std::size_t count = from.size() / from_size;
  for (std::size_t i = 0; i < count; ++i) {
    store(load(from.data() + i * from_size, from_type), to.data() + i * to_size, to_type);
  }
}

TensorView TensorView::tokens(std::int64_t first, std::int64_t count) const {
  return {dtype,
          {count, shape[1], shape[2]},
          bytes.subspan(static_cast<std::size_t>(first) * row_bytes(),
                        static_cast<std::size_t>(count) * row_bytes())};
}

}  // namespace kv
