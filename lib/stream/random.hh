#pragma once
// Random numbers that are the same everywhere: SplitMix64 for seeds, xoshiro256++ for draws
// (Blackman and Vigna). The standard library's distributions differ from one library to the next.

#include "kv/stream/time.hh"

#include <array>
#include <bit>
#include <cmath>

namespace kv {

// A well mixed number; different for different ones.
inline std::uint64_t mix64(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15;
  value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9;
  value = (value ^ value >> 27) * 0x94D049BB133111EB;
  return value ^ value >> 31;
}

class Random {
 public:
  // Generators of different `purpose` are independent, whatever the seed.
  explicit Random(std::uint64_t seed = 0, std::uint64_t purpose = 0) {
    std::uint64_t value = mix64(seed) ^ mix64(~purpose);
    for (std::uint64_t& word : words_) word = value = mix64(value);
  }

  std::uint64_t next() {
    const std::uint64_t result = std::rotl(words_[0] + words_[3], 23) + words_[0];
    const std::uint64_t shifted = words_[1] << 17;
    words_[2] ^= words_[0];
    words_[3] ^= words_[1];
    words_[1] ^= words_[2];
    words_[0] ^= words_[3];
    words_[2] ^= shifted;
    words_[3] = std::rotl(words_[3], 45);
    return result;
  }
  // In [0, 1).
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  bool chance(double probability) { return uniform() < probability; }
  // Exponential with this mean, at least 1 ns.
  TimeNs exponential(TimeNs mean) {
    return 1 + static_cast<TimeNs>(-std::log1p(-uniform()) * static_cast<double>(mean));
  }

 private:
  std::array<std::uint64_t, 4> words_{};
};

}  // namespace kv
