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

// Computed in double and rounded, so that machines agree whatever their libraries.
RopeTable::RopeTable(const Rope& rope, std::int64_t dim, std::uint64_t first_position,
                     std::int64_t positions, Turn turn, const Each& each)
    : half_(static_cast<std::size_t>(dim / 2)) {
  const std::vector<float> frequencies = rope_frequencies(rope, dim);
  const bool back = turn == Turn::kBack;
  const double factor = rope.attention_factor;
  cosines_.resize(half_ * static_cast<std::size_t>(positions));
  sines_.resize(cosines_.size());
  const auto fill = [&](std::size_t row) {
    const auto position = static_cast<float>(first_position + row);
    for (std::size_t pair = 0; pair < half_; ++pair) {
      const double angle = position * frequencies[pair];  // an f32 product
      const double cosine = std::cos(angle), sine = std::sin(back ? -angle : angle);
      const std::size_t at = row * half_ + pair;
      cosines_[at] = static_cast<float>(back ? cosine / factor : cosine * factor);
      sines_[at] = static_cast<float>(back ? sine / factor : sine * factor);
    }
  };
  constexpr std::size_t kTogether = 64;
  const auto rows = static_cast<std::size_t>(positions);
  const std::size_t pieces = (rows + kTogether - 1) / kTogether;
  const auto piece = [&](std::size_t i) {
    const std::size_t end = std::min(rows, (i + 1) * kTogether);
    for (std::size_t row = i * kTogether; row < end; ++row) fill(row);
  };
  if (each) {
    each(pieces, piece);
    return;
  }
  for (std::size_t i = 0; i < pieces; ++i) piece(i);
}

void RopeTable::turn(std::int64_t first, std::int64_t heads, std::span<float> rows) const {
  const std::size_t row = static_cast<std::size_t>(heads) * half_ * 2;
  if (row == 0) return;
  const float* cosine = cosines_.data() + static_cast<std::size_t>(first) * half_;
  const float* sine = sines_.data() + static_cast<std::size_t>(first) * half_;
  for (std::size_t begin = 0; begin < rows.size(); begin += row, cosine += half_, sine += half_) {
    for (float* head = &rows[begin]; head < &rows[begin] + row; head += 2 * half_) {
      for (std::size_t i = 0; i < half_; ++i) {
        const float a = head[i], b = head[half_ + i];
        head[i] = a * cosine[i] - b * sine[i];
        head[half_ + i] = b * cosine[i] + a * sine[i];
      }
    }
  }
}

namespace {

// A few positions at a time: the table stays small.
void turn_rows(const Rope& rope, std::uint64_t first_position, std::int64_t heads, std::int64_t dim,
               std::span<float> rows, RopeTable::Turn turn) {
  constexpr std::int64_t kPositions = 64;
  const auto row = static_cast<std::size_t>(heads * dim);
  for (std::size_t begin = 0; begin < rows.size(); begin += row * kPositions) {
    const std::span<float> part =
        rows.subspan(begin, std::min(row * kPositions, rows.size() - begin));
    const RopeTable table(rope, dim, first_position + begin / row,
                          static_cast<std::int64_t>(part.size() / row), turn);
    table.turn(0, heads, part);
  }
}

}  // namespace

void rotate_keys(const Rope& rope, std::uint64_t first_position, std::int64_t heads,
                 std::int64_t dim, std::span<float> rows) {
  turn_rows(rope, first_position, heads, dim, rows, RopeTable::Turn::kForth);
}

void unrotate_keys(const Rope& rope, std::uint64_t first_position, std::int64_t heads,
                   std::int64_t dim, std::span<float> rows) {
  turn_rows(rope, first_position, heads, dim, rows, RopeTable::Turn::kBack);
}

}  // namespace kv
