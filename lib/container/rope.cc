#include "kv/container/rope.hh"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace kv {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

// Long wavelengths are stretched by `factor`, short ones left, those between blended.
double llama3(const Rope& rope, double frequency) {
  const double context = static_cast<double>(rope.original_context);
  const double wavelength = kTwoPi / frequency;
  if (wavelength > context / rope.low_freq_factor) return frequency / rope.factor;
  if (wavelength < context / rope.high_freq_factor) return frequency;
  const double smooth = (context / wavelength - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * frequency / rope.factor + smooth * frequency;
}

// Where YaRN's ramp from left to stretched begins and ends, in pairs.
struct Ramp {
  double low, high;

  Ramp(const Rope& rope, double dim) {
    const auto pair_of = [&](double rotations) {
      return dim * std::log(static_cast<double>(rope.original_context) / (rotations * kTwoPi)) /
             (2 * std::log(rope.theta));
    };
    low = pair_of(rope.beta_fast);
    high = pair_of(rope.beta_slow);
    if (rope.yarn_truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, dim - 1);
    if (low == high) high += 0.001;
  }
  double at(double pair) const { return std::clamp((pair - low) / (high - low), 0.0, 1.0); }
};

// Computed in double and rounded, so that machines agree whatever their libraries.
void turn(const Rope& rope, std::uint64_t first_position, std::int64_t heads, std::int64_t dim,
          std::span<float> rows, bool back) {
  const std::vector<float> frequencies = rope_frequencies(rope, dim);
  const std::size_t half = frequencies.size(), row = static_cast<std::size_t>(heads * dim);
  std::vector<float> cosines(half), sines(half);
  for (std::size_t begin = 0; begin < rows.size(); begin += row) {
    const auto position = static_cast<float>(first_position + begin / row);
    for (std::size_t i = 0; i < half; ++i) {
      const double angle = position * frequencies[i];  // an f32 product
      const double cosine = std::cos(angle), sine = std::sin(back ? -angle : angle);
      const double factor = rope.attention_factor;
      cosines[i] = static_cast<float>(back ? cosine / factor : cosine * factor);
      sines[i] = static_cast<float>(back ? sine / factor : sine * factor);
    }
    for (float* head = &rows[begin]; head < &rows[begin] + row; head += dim) {
      for (std::size_t i = 0; i < half; ++i) {
        const float a = head[i], b = head[half + i];
        head[i] = a * cosines[i] - b * sines[i];
        head[half + i] = b * cosines[i] + a * sines[i];
      }
    }
  }
}

}  // namespace

std::vector<float> rope_frequencies(const Rope& rope, std::int64_t dim) {
  const Ramp ramp(rope, static_cast<double>(dim));
  std::vector<float> frequencies;
  for (std::int64_t pair = 0; pair < dim / 2; ++pair) {
    // The exponent and the power are f32 in model code, and so the angles of far positions.
    const float exponent = static_cast<float>(2 * pair) / static_cast<float>(dim);
    const double power = static_cast<float>(std::pow(rope.theta, static_cast<double>(exponent)));
    double frequency = static_cast<float>(1 / power);
    switch (rope.scaling) {
      case Rope::Scaling::kNone:
        break;
      case Rope::Scaling::kLinear:
        frequency /= rope.factor;
        break;
      case Rope::Scaling::kLlama3:
        frequency = llama3(rope, frequency);
        break;
      case Rope::Scaling::kYarn: {
        const double stretched = ramp.at(static_cast<double>(pair));
        frequency = stretched / (rope.factor * power) + (1 - stretched) / power;
        break;
      }
    }
    frequencies.push_back(static_cast<float>(frequency));
  }
  return frequencies;
}

void rotate_keys(const Rope& rope, std::uint64_t first_position, std::int64_t heads,
                 std::int64_t dim, std::span<float> rows) {
  turn(rope, first_position, heads, dim, rows, false);
}

void unrotate_keys(const Rope& rope, std::uint64_t first_position, std::int64_t heads,
                   std::int64_t dim, std::span<float> rows) {
  turn(rope, first_position, heads, dim, rows, true);
}

}  // namespace kv
