#include "decorrelate.hh"

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

constexpr std::int64_t kLeastTokens = 128;
constexpr double kLn2 = 0.6931471805599453;

// Covariances of the channels of one block.
class Block {
 public:
  Block(std::span<const float> columns, std::int64_t tokens, std::span<const std::uint8_t> weight,
        std::int64_t channels, double noise)
      : n_(channels), noise_(noise), cells_(static_cast<std::size_t>(channels * channels)) {
    // Four tokens at a time, for the sums wait for memory.
    constexpr std::int64_t kTogether = 4;
    std::vector<float> rows(static_cast<std::size_t>(kTogether * channels));
    std::vector<std::int64_t> known;
    for (std::int64_t t = 0; t < tokens; ++t) {
      if (weight[static_cast<std::size_t>(t)] != 0) known.push_back(t);
    }
    const auto count = static_cast<std::int64_t>(known.size());
    for (std::int64_t first = 0; first < count; first += kTogether) {
      for (std::int64_t k = 0; k < kTogether; ++k) {
        for (std::int64_t c = 0; c < channels; ++c) {
          rows[static_cast<std::size_t>(k * channels + c)] =
              first + k < count ? columns[static_cast<std::size_t>(
                                      c * tokens + known[static_cast<std::size_t>(first + k)])]
                                : 0.0f;
        }
      }
      const float *x = rows.data(), *y = x + channels, *z = y + channels, *w = z + channels;
      for (std::int64_t i = 0; i < channels; ++i) {
        float* out = cells_.data() + i * channels;
        for (std::int64_t j = i; j < channels; ++j) {
          out[j] += (x[i] * x[j] + y[i] * y[j]) + (z[i] * z[j] + w[i] * w[j]);
        }
      }
    }
    const auto share = 1.0f / static_cast<float>(std::max<std::int64_t>(1, count));
    for (std::int64_t i = 0; i < channels; ++i) {
      for (std::int64_t j = i; j < channels; ++j) at(j, i) = at(i, j) *= share;
    }
    for (std::int64_t i = 0; i < channels; ++i) inverse_.push_back(1 / (at(i, i) + noise_));
    best_.resize(static_cast<std::size_t>(channels));
    for (std::int64_t i = 0; i < channels; ++i) rescan(i);
  }

  // The pair with the largest correlation that is left over the noise, squared.
  double best(std::int64_t& a, std::int64_t& b) const {
    double most = 0;
    for (std::int64_t i = 0; i < n_; ++i) {
      const Best& row = best_[static_cast<std::size_t>(i)];
      if (row.value > most) {
        most = row.value;
        a = i;
        b = row.with;
      }
    }
    return most;
  }

  // Turns a and b until they are not correlated, as far as the angles go.
  std::int8_t turn(std::int64_t a, std::int64_t b) {
    const double va = at(a, a), vb = at(b, b), c = at(a, b);
    // The new a is cosine a + sine b: tan(2 angle) = 2c / (va - vb).
    const double ratio = (va - vb) / (2 * c);
    const double sign = ratio < 0 ? -1 : 1;
    const double tangent = sign / (std::fabs(ratio) + std::sqrt(1 + ratio * ratio));
    const double half = tangent / (1 + std::sqrt(1 + tangent * tangent));
    const Rotation rotation{.angle = static_cast<std::int8_t>(std::clamp<long>(
                                std::lrint(half * kAngleUnit), -kMostAngle, kMostAngle))};
    const float cosine = rotation.cosine(), sine = rotation.sine();
    for (std::int64_t k = 0; k < n_; ++k) {
      const float x = at(a, k), y = at(b, k);
      at(a, k) = cosine * x + sine * y;
      at(b, k) = cosine * y - sine * x;
    }
    for (std::int64_t k = 0; k < n_; ++k) {
      const float x = at(k, a), y = at(k, b);
      at(k, a) = cosine * x + sine * y;
      at(k, b) = cosine * y - sine * x;
    }
    for (const std::int64_t i : {a, b}) {
      inverse_[static_cast<std::size_t>(i)] = 1 / (at(i, i) + noise_);
    }
    for (std::int64_t i = 0; i < n_; ++i) {
      Best& row = best_[static_cast<std::size_t>(i)];
      if (i == a || i == b || row.with == a || row.with == b) {
        rescan(i);
      } else {
        offer(i, a);
        offer(i, b);
      }
    }
    return rotation.angle;
  }

 private:
  struct Best {
    double value = 0;
    std::int64_t with = 0;
  };

  float& at(std::int64_t i, std::int64_t j) { return cells_[static_cast<std::size_t>(i * n_ + j)]; }
  void offer(std::int64_t i, std::int64_t j) {
    if (j <= i) return;
    const double c = at(i, j);
    const double value =
        c * c * inverse_[static_cast<std::size_t>(i)] * inverse_[static_cast<std::size_t>(j)];
    Best& best = best_[static_cast<std::size_t>(i)];
    if (value > best.value) best = {value, j};
  }
  void rescan(std::int64_t i) {
    best_[static_cast<std::size_t>(i)] = {};
    for (std::int64_t j = i + 1; j < n_; ++j) offer(i, j);
  }

  std::int64_t n_;
  double noise_;
  std::vector<float> cells_;
  std::vector<double> inverse_;  // of variance and noise
  std::vector<Best> best_;
};

}  // namespace

std::vector<Rotation> find_rotations(std::span<const float> columns, std::int64_t tokens,
                                     std::span<const std::uint8_t> weight, std::int64_t block,
                                     double noise) {
  const std::int64_t channels =
      static_cast<std::int64_t>(columns.size()) / std::max<std::int64_t>(1, tokens);
  std::vector<Rotation> rotations;
  if (tokens < kLeastTokens || !(noise > 0)) return rotations;
  // A rotation saves tokens / 2 log2(1 / (1 - correlation^2)) bits.
  constexpr double kCostBits = 18;  // measured: what one leaves lets others save more
  const double x = 2 * kLn2 * kCostBits / static_cast<double>(tokens);
  const double least = 1 - 1 / (1 + x + x * x / 2 + x * x * x / 6);
  for (std::int64_t first = 0; first < channels; first += block) {
    const std::int64_t count = std::min(block, channels - first);
    Block cells(columns.subspan(static_cast<std::size_t>(first * tokens)), tokens, weight, count,
                noise);
    for (std::int64_t i = 0; i < 16 * count && rotations.size() < kMostRotations; ++i) {
      std::int64_t a = 0, b = 0;
      if (!(cells.best(a, b) > least)) break;
      const std::int8_t angle = cells.turn(a, b);
      if (angle == 0) break;
      rotations.push_back(
          {static_cast<std::uint32_t>(first + a), static_cast<std::uint32_t>(first + b), angle});
    }
  }
  std::reverse(rotations.begin(), rotations.end());
  return rotations;
}

}  // namespace kv
