#include "ecsq_scales.hh"

#include "bit_packing.hh"

#include <algorithm>
#include <bit>
#include <cmath>

namespace kv {
namespace {

constexpr int kSigmaBits = 7, kShapeBits = 2, kAngleBits = 7;

struct ScalesHead {
  float base = 1;
  std::uint16_t rotation_count = 0;
  std::uint8_t mean_bits = 0;   // 0 to 16
  std::uint8_t wider_bits = 0;  // 0 to 7
  std::uint8_t mean_shift = 0;  // 0 to 15
  std::array<std::uint8_t, 3> reserved{};
};
static_assert(sizeof(ScalesHead) == 12);

// 2^(eighths/8), as far as 8 bits say it.
float factor(int eighths) {
  constexpr std::array<float, kOctave> kParts = {128, 140, 152, 166, 181, 197, 215, 235};
  return std::ldexp(kParts[static_cast<std::size_t>(eighths & 7)], (eighths >> 3) - 7);
}

int index_bits(std::int64_t channels) {
  return static_cast<int>(
      std::bit_width(static_cast<std::uint64_t>(std::max<std::int64_t>(1, channels - 1))));
}

std::size_t packed_bits(std::size_t channels, const ScalesHead& head, int index_bits) {
  return channels *
             static_cast<std::size_t>(head.mean_bits + head.wider_bits + kSigmaBits + kShapeBits) +
         head.rotation_count * static_cast<std::size_t>(2 * index_bits + kAngleBits);
}

}  // namespace

float Rotation::cosine() const {
  constexpr double kUnit = kAngleUnit * kAngleUnit;
  const double square = static_cast<double>(angle) * angle;
  return static_cast<float>((kUnit - square) / (kUnit + square));
}

float Rotation::sine() const {
  constexpr double kUnit = kAngleUnit * kAngleUnit;
  const double square = static_cast<double>(angle) * angle;
  return static_cast<float>(2.0 * kAngleUnit * angle / (kUnit + square));
}

float EcsqScales::mean_unit() const { return std::ldexp(base, -mean_shift); }

float EcsqScales::step(std::size_t c, int half_octaves, int quality) const {
  float at = base;
  for (int i = 0; i < quality; ++i) at /= 3;
  return at * factor(wider[c] + kStepGrid * half_octaves);
}

TensorProfile EcsqScales::classes() const {
  TensorProfile profile;
  profile.channels = (channels() + 3) / 4 * 4;
  profile.shape = shape;
  profile.sigma = sigma;
  profile.shape.resize(static_cast<std::size_t>(profile.channels));
  profile.sigma.resize(static_cast<std::size_t>(profile.channels), -128);  // codes nothing
  return profile;
}

void EcsqScales::put(ByteWriter& out) const {
  ScalesHead head{.base = base,
                  .rotation_count = static_cast<std::uint16_t>(rotations.size()),
                  .mean_shift = static_cast<std::uint8_t>(mean_shift)};
  for (const std::int16_t value : mean) {
    const auto magnitude = static_cast<std::uint16_t>(value < 0 ? ~value : value);
    if (value != 0) {
      head.mean_bits =
          std::max(head.mean_bits, static_cast<std::uint8_t>(1 + std::bit_width(magnitude)));
    }
  }
  for (const std::uint8_t value : wider) {
    head.wider_bits = std::max(head.wider_bits, static_cast<std::uint8_t>(std::bit_width(value)));
  }
  out.put(head);
  BitPacker bits(out);
  for (std::size_t c = 0; c < mean.size(); ++c) {
    bits.put(static_cast<std::uint32_t>(mean[c]) & ((1u << head.mean_bits) - 1), head.mean_bits);
    bits.put(wider[c], head.wider_bits);
    bits.put(static_cast<std::uint32_t>(sigma[c] - kLeastPlace), kSigmaBits);
    bits.put(static_cast<std::uint32_t>(shape[c]), kShapeBits);
  }
  const int width = index_bits(channels());
  for (const Rotation& rotation : rotations) {
    bits.put(rotation.a, width);
    bits.put(rotation.b, width);
    bits.put(static_cast<std::uint32_t>(rotation.angle) & 0x7F, kAngleBits);
  }
  bits.finish();
}

EcsqScales EcsqScales::from(ByteReader& in, std::int64_t channels, const std::string& place) {
  const auto head = in.get<ScalesHead>();
  if (!(head.base >= kLeastEcsqBase && head.base <= kMostEcsqBase) || head.mean_bits > 16 ||
      head.wider_bits > 7 || head.mean_shift > 15 ||
      head.reserved != std::array<std::uint8_t, 3>{} || head.rotation_count > kMostRotations) {
    fail_input("{}: the head of the tile is out of range", place);
  }
  const auto count = static_cast<std::size_t>(channels);
  const int width = index_bits(channels);
  const ByteView packed = in.take((packed_bits(count, head, width) + 7) / 8);
  BitUnpacker bits(packed);
  EcsqScales scales{.base = head.base, .mean_shift = head.mean_shift};
  for (std::size_t c = 0; c < count; ++c) {
    const std::uint32_t mean = bits.get(head.mean_bits);
    const bool negative = head.mean_bits > 0 && (mean >> (head.mean_bits - 1) & 1) != 0;
    scales.mean.push_back(static_cast<std::int16_t>(static_cast<std::int32_t>(mean) -
                                                    (negative ? 1 << head.mean_bits : 0)));
    scales.wider.push_back(static_cast<std::uint8_t>(bits.get(head.wider_bits)));
    scales.sigma.push_back(
        static_cast<std::int8_t>(static_cast<int>(bits.get(kSigmaBits)) + kLeastPlace));
    scales.shape.push_back(static_cast<Shape>(bits.get(kShapeBits)));
  }
  for (std::size_t i = 0; i < head.rotation_count; ++i) {
    Rotation rotation{.a = bits.get(width), .b = bits.get(width)};
    const auto angle = static_cast<int>(bits.get(kAngleBits));
    rotation.angle = static_cast<std::int8_t>(angle < 64 ? angle : angle - 128);
    if (rotation.a >= rotation.b || rotation.b >= count || rotation.angle < -kMostAngle) {
      fail_input("{}: rotation {} is out of range", place, i);
    }
    scales.rotations.push_back(rotation);
  }
  if (!bits.finished()) fail_input("{}: the channels' last byte is not filled with zeros", place);
  return scales;
}

void turn(std::span<const Rotation> rotations, std::int64_t tokens, std::span<float> columns) {
  for (auto at = rotations.rbegin(); at != rotations.rend(); ++at) {
    const float cosine = at->cosine(), sine = at->sine();
    float* a = columns.data() + at->a * tokens;
    float* b = columns.data() + at->b * tokens;
    for (std::int64_t t = 0; t < tokens; ++t) {
      const float x = a[t], y = b[t];
      a[t] = cosine * x + sine * y;
      b[t] = cosine * y - sine * x;
    }
  }
}

}  // namespace kv
