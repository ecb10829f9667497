#include "kv/checkpoint/dequantize.hh"

#include <bit>
#include <cstring>

namespace kv {
namespace {

using std::uint8_t;

float half_at(const uint8_t* at) {
  std::uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  // The half's exponent and mantissa in a float's place are 2^112 too small, denormals too.
  const std::uint32_t magnitude = static_cast<std::uint32_t>(bits & 0x7FFFu) << 13;
  float value = std::bit_cast<float>(magnitude) * 0x1p112f;
  if (magnitude >= 0x0F800000u) value = std::bit_cast<float>(magnitude | 0x7F800000u);
  return bits & 0x8000u ? -value : value;
}

void q4_0(const uint8_t* block, float* out) {
  const float d = half_at(block);
  const uint8_t* q = block + 2;
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<float>((q[j] & 15) - 8) * d;
    out[j + 16] = static_cast<float>((q[j] >> 4) - 8) * d;
  }
}

void q4_1(const uint8_t* block, float* out) {
  const float d = half_at(block), m = half_at(block + 2);
  const uint8_t* q = block + 4;
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<float>(q[j] & 15) * d + m;
    out[j + 16] = static_cast<float>(q[j] >> 4) * d + m;
  }
}

int fifth_bit(std::uint32_t bits, int j) { return static_cast<int>((bits >> j) & 1u) << 4; }

void q5_0(const uint8_t* block, float* out) {
  const float d = half_at(block);
  std::uint32_t high;
  std::memcpy(&high, block + 2, sizeof(high));
  const uint8_t* q = block + 6;
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<float>(((q[j] & 15) | fifth_bit(high, j)) - 16) * d;
    out[j + 16] = static_cast<float>(((q[j] >> 4) | fifth_bit(high, j + 16)) - 16) * d;
  }
}

void q5_1(const uint8_t* block, float* out) {
  const float d = half_at(block), m = half_at(block + 2);
  std::uint32_t high;
  std::memcpy(&high, block + 4, sizeof(high));
  const uint8_t* q = block + 8;
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<float>((q[j] & 15) | fifth_bit(high, j)) * d + m;
    out[j + 16] = static_cast<float>((q[j] >> 4) | fifth_bit(high, j + 16)) * d + m;
  }
}

void q8_0(const uint8_t* block, float* out) {
  const float d = half_at(block);
  for (int j = 0; j < 32; ++j) {
    out[j] = static_cast<float>(static_cast<std::int8_t>(block[2 + j])) * d;
  }
}

// Eight pairs of 6-bit scale and minimum in 12 bytes.
struct ScaleMin {
  float scale, min;
};
ScaleMin scale_min(const uint8_t* packed, int j) {
  const int scale = j < 4 ? packed[j] & 63 : (packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4);
  const int min = j < 4 ? packed[j + 4] & 63 : (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4);
  return {static_cast<float>(scale), static_cast<float>(min)};
}

// Q4_K and Q5_K differ in the fifth bits, one plane of 32 bytes for all eight groups.
void q45_k(const uint8_t* packed, const uint8_t* high, const uint8_t* q, float d, float dmin,
           float* out) {
  for (int group = 0; group < 8; ++group) {
    const ScaleMin pair = scale_min(packed, group);
    const float scale = d * pair.scale, min = dmin * pair.min;
    const uint8_t* from = q + 32 * (group / 2);
    for (int l = 0; l < 32; ++l) {
      int value = group % 2 == 0 ? from[l] & 15 : from[l] >> 4;
      if (high && ((high[l] >> group) & 1)) value += 16;
      out[32 * group + l] = scale * static_cast<float>(value) - min;
    }
  }
}

void q4_k(const uint8_t* block, float* out) {
  q45_k(block + 4, nullptr, block + 16, half_at(block), half_at(block + 2), out);
}

void q5_k(const uint8_t* block, float* out) {
  q45_k(block + 4, block + 16, block + 48, half_at(block), half_at(block + 2), out);
}

void q6_k(const uint8_t* block, float* out) {
  const uint8_t* low = block;
  const uint8_t* high = block + 128;
  const auto* scales = reinterpret_cast<const std::int8_t*>(block + 192);
  const float d = half_at(block + 208);
  for (int half = 0; half < 2; ++half, low += 64, high += 32, scales += 8, out += 128) {
    for (int quarter = 0; quarter < 4; ++quarter) {
      for (int l = 0; l < 32; ++l) {
        const int nibbles = low[32 * (quarter % 2) + l];
        const int value =
            (quarter < 2 ? nibbles & 15 : nibbles >> 4) | (((high[l] >> (2 * quarter)) & 3) << 4);
        const float scale = d * static_cast<float>(scales[2 * quarter + l / 16]);
        out[32 * quarter + l] = scale * static_cast<float>(value - 32);
      }
    }
  }
}

void blocks_of(void (*one)(const uint8_t*, float*), const BlockShape& shape, const uint8_t* from,
               std::span<float> out) {
  const auto step = static_cast<std::size_t>(shape.count);
  for (std::size_t i = 0; i < out.size(); i += step, from += shape.size_bytes) {
    one(from, out.data() + i);
  }
}

}  // namespace

BlockShape block_shape(WeightType type) {
  switch (type) {
    case WeightType::kF32:
      return {1, 4};
    case WeightType::kF16:
    case WeightType::kBF16:
      return {1, 2};
    case WeightType::kQ8_0:
      return {32, 34};
    case WeightType::kQ4_0:
      return {32, 18};
    case WeightType::kQ4_1:
      return {32, 20};
    case WeightType::kQ5_0:
      return {32, 22};
    case WeightType::kQ5_1:
      return {32, 24};
    case WeightType::kQ4_K:
      return {256, 144};
    case WeightType::kQ5_K:
      return {256, 176};
    case WeightType::kQ6_K:
      return {256, 210};
  }
  return {};
}

void dequantize(WeightType type, const std::byte* blocks, std::span<float> out) {
  const auto* from = reinterpret_cast<const uint8_t*>(blocks);
  const BlockShape shape = block_shape(type);
  switch (type) {
    case WeightType::kF32:
      std::memcpy(out.data(), from, out.size_bytes());
      return;
    case WeightType::kF16:
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = half_at(from + 2 * i);
      return;
    case WeightType::kBF16:
      for (std::size_t i = 0; i < out.size(); ++i) {
        std::uint16_t bits;
        std::memcpy(&bits, from + 2 * i, sizeof(bits));
        out[i] = std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
      }
      return;
    case WeightType::kQ8_0:
      return blocks_of(q8_0, shape, from, out);
    case WeightType::kQ4_0:
      return blocks_of(q4_0, shape, from, out);
    case WeightType::kQ4_1:
      return blocks_of(q4_1, shape, from, out);
    case WeightType::kQ5_0:
      return blocks_of(q5_0, shape, from, out);
    case WeightType::kQ5_1:
      return blocks_of(q5_1, shape, from, out);
    case WeightType::kQ4_K:
      return blocks_of(q4_k, shape, from, out);
    case WeightType::kQ5_K:
      return blocks_of(q5_k, shape, from, out);
    case WeightType::kQ6_K:
      return blocks_of(q6_k, shape, from, out);
  }
}

}  // namespace kv
