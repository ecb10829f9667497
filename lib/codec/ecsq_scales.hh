#pragma once
// What a tile of the codec `ecsq` says of its channels, and what comes of it: kv(5) "ecsq". Private
// to the folder.

#include "clp_stream.hh"

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace kv {

// Two channels turned by an angle whose half has the tangent `angle` / kAngleUnit: 43 degrees at
// most. Which of two channels is the larger afterwards does not matter, so 45 are enough.
struct Rotation {
  std::uint32_t a = 0, b = 0;  // channels, a < b
  std::int8_t angle = 0;       // -kMostAngle to kMostAngle

  float cosine() const;
  float sine() const;
};
inline constexpr int kAngleUnit = 160;
inline constexpr int kMostAngle = 63;

struct EcsqScales {
  float base = 1;                   // a step: kLeastEcsqBase to kMostEcsqBase
  int mean_shift = 2;               // 0 to 15
  std::vector<std::int16_t> mean;   // [channels], in `mean_unit()`
  std::vector<std::uint8_t> wider;  // [coefficients]: eighths of an octave, 0 to 127
  std::vector<Shape> shape;         // [coefficients]: classes at the coefficient's own step
  std::vector<std::int8_t> sigma;   // [coefficients], kLeastPlace to kMostPlace
  std::vector<Rotation> rotations;  // in the order of decoding

  std::int64_t channels() const { return static_cast<std::int64_t>(mean.size()); }
  float mean_unit() const;  // `base` over 2^mean_shift
  // Of coefficient `c`, in a token whose step is `half_octaves`, with so many refinements.
  float step(std::size_t c, int half_octaves, int quality = 0) const;
  // What write_tile_code() and read_tile_code() take: channels in whole quads.
  TensorProfile classes() const;

  void put(ByteWriter& out) const;
  // Throws kInput, with `place`.
  static EcsqScales from(ByteReader& in, std::int64_t channels, const std::string& place);
};
inline constexpr int kLeastPlace = -50, kMostPlace = 77;
// So that nothing overflows, and steps are no subnormals.
inline constexpr float kLeastEcsqBase = 0x1p-100f, kMostEcsqBase = 0x1p64f;
inline constexpr int kMostWider = 127;
inline constexpr std::size_t kMostRotations = 1 << 14;
inline constexpr std::int64_t kMostEcsqChannels = 1 << 16;

// [channels][tokens]: channels without means to coefficients, the rotations backwards.
void turn(std::span<const Rotation> rotations, std::int64_t tokens, std::span<float> columns);

}  // namespace kv
