#include "kv/container/tensor.hh"

#include <algorithm>
#include <stdexcept>

namespace kv {
namespace {

constexpr std::array<std::string_view, 6> kNames = {"f32",      "f16",      "bf16",
                                                    "fp8_e4m3", "fp8_e5m2", "int8"};

// The functions below are selects over integers without branches, so that compilers vectorise the
// loops over them.
float f32_of(std::uint32_t bits) { return std::bit_cast<float>(bits); }
std::uint32_t bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }

constexpr std::uint32_t kInfinity = 0x7F800000u;  // of f32; magnitudes above are NaN

// A format of 1 sign, E exponent and M mantissa bits, E under 8. A magnitude is a number's bits
// without its sign.
template <int kExponentBits, int kMantissaBits>
struct Small {
  static constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  static constexpr int kShift = 23 - kMantissaBits;
  static constexpr int kSignShift = 31 - kExponentBits - kMantissaBits;
  static constexpr std::uint32_t kFirstNormal = static_cast<std::uint32_t>(128 - kBias) << 23;

  // Fields move to f32's places; a power of two, exact also for subnormals, mends the bias.
  static float widen(std::uint32_t magnitude) {
    return f32_of(magnitude << kShift) * f32_of(static_cast<std::uint32_t>(254 - kBias) << 23);
  }

  // Of an f32 magnitude that does not overflow, to nearest even.
  static std::uint32_t narrow(std::uint32_t magnitude) {
    // Added to a power of two whose last place is the smallest subnormal, the adder rounds.
    constexpr std::uint32_t kAnchor = static_cast<std::uint32_t>(128 - kBias + kShift) << 23;
    const std::uint32_t subnormal = bits_of(f32_of(magnitude) + f32_of(kAnchor)) - kAnchor;
    const std::uint32_t odd = (magnitude >> kShift) & 1u;
    const std::uint32_t half = (1u << (kShift - 1)) - 1u + odd;
    const std::uint32_t normal = (magnitude - kFirstNormal + (1u << 23) + half) >> kShift;
    return magnitude < kFirstNormal ? subnormal : normal;
  }

  static std::uint32_t sign_of(std::uint32_t f32) { return (f32 & 0x80000000u) >> kSignShift; }
  static float with_sign(float magnitude, std::uint32_t small) {
    constexpr std::uint32_t kSign = 0x80000000u >> kSignShift;
    return f32_of(bits_of(magnitude) | (small & kSign) << kSignShift);
  }
};

using Half = Small<5, 10>;
using E4M3 = Small<4, 3>;
using E5M2 = Small<5, 2>;

float from_bf16(std::uint16_t h) { return f32_of(static_cast<std::uint32_t>(h) << 16); }

std::uint16_t to_bf16(float value) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const std::uint32_t nan = (bits >> 16) | 0x40u;  // rounding could make it infinity
  return static_cast<std::uint16_t>((bits & 0x7FFFFFFFu) > kInfinity ? nan : rounded);
}

float from_f16(std::uint16_t h) {
  const std::uint32_t magnitude = h & 0x7FFFu;
  const float special = f32_of(kInfinity | magnitude << Half::kShift);
  return Half::with_sign(magnitude >= 0x7C00u ? special : Half::widen(magnitude), h);
}

std::uint16_t to_f16(float value) {
  const std::uint32_t bits = bits_of(value), magnitude = bits & 0x7FFFFFFFu;
  std::uint32_t result = Half::narrow(magnitude);
  result = magnitude >= 0x477FF000u ? 0x7C00u : result;  // rounds to 2^16
  result = magnitude > kInfinity ? 0x7E00u : result;
  return static_cast<std::uint16_t>(result | Half::sign_of(bits));
}

float from_e4m3(std::uint8_t h) {
  const std::uint32_t magnitude = h & 0x7Fu;
  return E4M3::with_sign(magnitude == 0x7Fu ? f32_of(0x7FC00000u) : E4M3::widen(magnitude), h);
}

std::uint8_t to_e4m3(float value) {
  const std::uint32_t bits = bits_of(value), magnitude = bits & 0x7FFFFFFFu;
  std::uint32_t result = E4M3::narrow(magnitude);
  result = magnitude >= 0x43E00000u ? 0x7Eu : result;  // 448, the largest
  result = magnitude > kInfinity ? 0x7Fu : result;
  return static_cast<std::uint8_t>(result | E4M3::sign_of(bits));
}

float from_e5m2(std::uint8_t h) { return from_f16(static_cast<std::uint16_t>(h << 8)); }

std::uint8_t to_e5m2(float value) {
  const std::uint32_t bits = bits_of(value), magnitude = bits & 0x7FFFFFFFu;
  std::uint32_t result = E5M2::narrow(magnitude);
  result = magnitude >= 0x47600000u ? 0x7Bu : result;  // 57344, the largest finite
  result = magnitude > kInfinity ? 0x7Fu : result;
  return static_cast<std::uint8_t>(result | E5M2::sign_of(bits));
}

constexpr std::size_t kBlock = 1024;  // values at a time, within the first-level cache
using Block = std::array<float, kBlock>;

// The function is a template argument, so that each loop is its own and inlines it.
template <typename T, float (*kOne)(T)>
void widen(ByteView from, Block& to) {
  std::array<T, kBlock> values;  // typed and aligned, whatever `from` is
  std::memcpy(values.data(), from.data(), from.size());
  const std::size_t n = from.size() / sizeof(T);
  for (std::size_t i = 0; i < n; ++i) to[i] = kOne(values[i]);
}

template <typename T, T (*kOne)(float)>
void narrow(const Block& from, std::span<std::byte> to) {
  std::array<T, kBlock> values;
  const std::size_t n = to.size() / sizeof(T);
  for (std::size_t i = 0; i < n; ++i) values[i] = kOne(from[i]);
  std::memcpy(to.data(), values.data(), to.size());
}

void load(ByteView from, DType type, Block& to) {
  switch (type) {
    case DType::kF32:
      std::memcpy(to.data(), from.data(), from.size());
      break;
    case DType::kF16:
      widen<std::uint16_t, from_f16>(from, to);
      break;
    case DType::kBF16:
      widen<std::uint16_t, from_bf16>(from, to);
      break;
    case DType::kF8E4M3:
      widen<std::uint8_t, from_e4m3>(from, to);
      break;
    case DType::kF8E5M2:
      widen<std::uint8_t, from_e5m2>(from, to);
      break;
    case DType::kI8:
      break;  // convert() refused it
  }
}

void store(const Block& from, std::span<std::byte> to, DType type) {
  switch (type) {
    case DType::kF32:
      std::memcpy(to.data(), from.data(), to.size());
      break;
    case DType::kF16:
      narrow<std::uint16_t, to_f16>(from, to);
      break;
    case DType::kBF16:
      narrow<std::uint16_t, to_bf16>(from, to);
      break;
    case DType::kF8E4M3:
      narrow<std::uint8_t, to_e4m3>(from, to);
      break;
    case DType::kF8E5M2:
      narrow<std::uint8_t, to_e5m2>(from, to);
      break;
    case DType::kI8:
      break;
  }
}

}  // namespace

std::string_view dtype_name(DType dtype) { return kNames.at(static_cast<std::size_t>(dtype) - 1); }

DType parse_dtype(std::string_view name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) {
    fail_usage("dtype '{}' is unknown; give one of {}", name, fmt::join(kNames, ", "));
  }
  return static_cast<DType>(found - kNames.begin() + 1);
}

bool dtype_known(std::uint8_t number) { return number >= 1 && number <= kNames.size(); }

void convert(ByteView from, DType from_type, std::span<std::byte> to, DType to_type) {
  const std::size_t from_size = dtype_size_bytes(from_type), to_size = dtype_size_bytes(to_type);
  const std::size_t count = from.size() / from_size;
  if (from.size() != count * from_size || to.size() != count * to_size) {
    throw std::logic_error("convert: sizes differ");
  }
  if (from_type == to_type) {
    if (count > 0) std::memmove(to.data(), from.data(), from.size());
    return;
  }
  if (from_type == DType::kI8 || to_type == DType::kI8) {
    fail_usage("int8 values need their scales to become another dtype; decode the cache first");
  }
  Block block;
  for (std::size_t done = 0; done < count; done += kBlock) {
    const std::size_t n = std::min(kBlock, count - done);
    load(from.subspan(done * from_size, n * from_size), from_type, block);
    store(block, to.subspan(done * to_size, n * to_size), to_type);
  }
}

std::uint16_t f16_bits(float value) { return to_f16(value); }
float f16_value(std::uint16_t bits) { return from_f16(bits); }

TensorView TensorView::tokens(std::int64_t first, std::int64_t count) const {
  if (first < 0 || count < 0 || first > shape[0] || count > shape[0] - first) {
    throw std::logic_error("TensorView::tokens: beyond the view");
  }
  TensorView part = *this;
  part.shape[0] = count;
  part.bytes = bytes.subspan(static_cast<std::size_t>(first) * row_bytes(),
                             static_cast<std::size_t>(count) * row_bytes());
  return part;
}

}  // namespace kv
