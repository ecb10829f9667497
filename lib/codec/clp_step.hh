#pragma once
// Steps as numbers. Private to the folder.

#include "kv/codec/classes.hh"

#include <array>
#include <bit>
#include <cstdint>

namespace kv {

// 2^(i/8) in 1/128: what a step of `eighths` multiplies the basis's sum with.
struct StepFactor {
  std::uint8_t multiplier;
  std::int8_t shift;
};
inline StepFactor step_factor(int eighths) {
  constexpr std::array<std::uint8_t, kOctave> kMultipliers = {128, 140, 152, 166,
                                                              181, 197, 215, 235};
  constexpr int kStepBits = 7;
  return {kMultipliers[static_cast<std::size_t>(eighths & 7)],
          static_cast<std::int8_t>((eighths >> 3) - kStepBits)};
}
inline double step_value(int eighths) {
  const StepFactor factor = step_factor(eighths);
  // 2^shift by its exponent: of every token, so not by ldexp().
  return factor.multiplier *
         std::bit_cast<double>(static_cast<std::uint64_t>(1023 + factor.shift) << 52);
}

}  // namespace kv
