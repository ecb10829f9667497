#include "kv/codec/classes.hh"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace kv {
namespace {

// The C library's exp() differs between versions, so the format has its own: e^-x for x >= 0.
double exp_minus(double x) {
  constexpr double kLn2 = 0.6931471805599453;
  if (x > 40.0) return 0.0;
  const int halvings = static_cast<int>(x / kLn2);
  const double rest = x - static_cast<double>(halvings) * kLn2;
  double sum = 1.0;
  for (int n = 16; n > 0; --n) sum = 1.0 - rest / static_cast<double>(n) * sum;
  for (int i = 0; i < halvings; ++i) sum *= 0.5;
  return sum;
}

// Densities of unit variance, without regard to a constant factor common to all places.
double gauss(double x) { return 0.3989422804014327 * exp_minus(0.5 * x * x); }
double laplace(double x, double deviation) {
  constexpr double kRoot2 = 1.4142135623730951;
  return exp_minus(kRoot2 * x / deviation) / (kRoot2 * deviation);
}
double density(Shape shape, double x) {
  switch (shape) {
    case Shape::kGauss:
      return gauss(x);
    case Shape::kBlend:
      return 0.5 * gauss(x) + 0.5 * laplace(x, 1.0);
    case Shape::kLaplace:
      return laplace(x, 1.0);
    case Shape::kHeavy:  // 4/5 of deviation 1/2, 1/5 of deviation 2: variance 1
      return 0.8 * laplace(x, 0.5) + 0.2 * laplace(x, 2.0);
  }
  return 0.0;
}

// Simpson's rule over [from, to], 0 <= from, in units of the deviation.
double mass(Shape shape, double from, double to) {
  constexpr int kHalves = 8;
  const double width = (to - from) / static_cast<double>(2 * kHalves);
  double sum = density(shape, from) + density(shape, to);
  for (int i = 1; i < 2 * kHalves; ++i) {
    sum += (i % 2 == 0 ? 2.0 : 4.0) * density(shape, from + static_cast<double>(i) * width);
  }
  return sum * width / 3.0;
}

// 2^(1/8) to the power of `sigma`.
double deviation(int sigma) {
  constexpr double kRoot = 1.0905077326652577;
  double value = 1.0;
  for (int i = 0; i < sigma; ++i) value *= kRoot;
  for (int i = 0; i > sigma; --i) value /= kRoot;
  return value;
}

// Squared steps that a bit is worth, where the rate is low.
constexpr double kErrorOfBit = 0.09;

constexpr int kFrequencies = 4096;
constexpr int kMostSymbols = 32;

std::vector<std::uint16_t> make_table(Shape shape, int sigma) {
  const double step = 1.0 / deviation(sigma);
  std::array<double, kMostSymbols / 2> masses{};  // of the values 0 to 15
  masses[0] = 2.0 * mass(shape, 0.0, 0.5 * step);
  for (int v = 1; v < kMostSymbols / 2; ++v) {
    const double at = static_cast<double>(v);
    masses[static_cast<std::size_t>(v)] = mass(shape, (at - 0.5) * step, (at + 0.5) * step);
  }
  // As few symbols as leave less than 1/512 to escapes.
  int most = 1;
  const auto covered = [&] {
    double sum = masses[0];
    for (int v = 1; v <= most; ++v) sum += 2.0 * masses[static_cast<std::size_t>(v)];
    return sum;
  };
  while (most < kMostSymbols / 2 - 1 && covered() < 1.0 - 1.0 / 512.0) most = 2 * most + 1;
  std::vector<std::uint16_t> row(static_cast<std::size_t>(2 * most + 2));
  int sum = 0;
  const auto put = [&](int symbol, double share) {
    const int count = std::max(1, static_cast<int>(share * kFrequencies + 0.5));
    row[static_cast<std::size_t>(symbol)] = static_cast<std::uint16_t>(count);
    sum += count;
  };
  for (int v = 1; v <= most; ++v) {
    put(most - v, masses[static_cast<std::size_t>(v)]);
    put(most + v, masses[static_cast<std::size_t>(v)]);
  }
  put(2 * most + 1, std::max(0.0, 1.0 - covered()));
  row[static_cast<std::size_t>(most)] = static_cast<std::uint16_t>(kFrequencies - sum);
  return row;
}

// `context` as in Classes::third().
std::vector<std::uint16_t> make_thirds(Shape shape, int sigma, int context) {
  const double step = 1.0 / deviation(sigma);
  std::array<double, 3> masses{};
  const double at = static_cast<double>(context);
  const auto place = [&](double sixths) { return (at + sixths / 6.0) * step; };
  masses[2] = mass(shape, place(1.0), place(3.0));
  if (context == 0) {
    masses[0] = masses[2];
    masses[1] = 2.0 * mass(shape, 0.0, place(1.0));
  } else {
    masses[0] = mass(shape, place(-3.0), place(-1.0));
    masses[1] = mass(shape, place(-1.0), place(1.0));
  }
  const double sum = masses[0] + masses[1] + masses[2];
  const auto count = [&](double part) {
    return static_cast<std::uint16_t>(
        std::max(1, static_cast<int>(part / sum * kFrequencies + 0.5)));
  };
  // What is left goes to the likeliest.
  const std::size_t most = context == 0 ? 1 : 0;
  std::vector<std::uint16_t> row = {count(masses[0]), count(masses[1]), count(masses[2]), 1};
  row[most] = 0;
  row[most] = static_cast<std::uint16_t>(kFrequencies - row[0] - row[1] - row[2] - row[3]);
  return row;
}

constexpr int kThirdPlaces = kMostThird - kLeastSigma + 1;
constexpr int kContexts = 3;

}  // namespace

std::optional<std::uint16_t> Classes::third(Shape shape, int sigma, int context) const {
  if (context == 0 && sigma < kLeastCoded[static_cast<std::size_t>(shape)]) {
    const ClassCode finer = code(shape, sigma + kThird);
    if (finer.zero) return {};
    return static_cast<std::uint16_t>(kShapes * kContexts * kThirdPlaces + finer.table);
  }
  const int row = static_cast<int>(shape) * kContexts + context;
  return static_cast<std::uint16_t>(row * kThirdPlaces +
                                    std::clamp(sigma, kLeastSigma, kMostThird) - kLeastSigma);
}

const Classes& Classes::get() {
  static const Classes classes;
  return classes;
}

Classes::Classes() {
  for (int shape = 0; shape < kShapes; ++shape) {
    for (int i = 0; i < kTableSigmas; ++i) {
      tables_.push_back(make_table(static_cast<Shape>(shape), kLeastSigma + i));
    }
    for (int context = 0; context < kContexts; ++context) {
      for (int i = 0; i < kThirdPlaces; ++i) {
        thirds_.push_back(make_thirds(static_cast<Shape>(shape), kLeastSigma + i, context));
      }
    }
  }
  fill_places();
  thirds_.insert(thirds_.end(), tables_.begin(), tables_.end());
}

void Classes::fill_places() {
  for (std::size_t shape = 0; shape < kShapes; ++shape) {
    for (int sigma = kLeastSigma - 1; sigma <= kMostSigma; ++sigma) {
      ClassCode& code = codes_[shape][place_of(sigma)];
      float& zero_below = zero_below_[shape][place_of(sigma)];
      zero_below = INFINITY;
      if (sigma < kLeastCoded[shape]) continue;
      int at = sigma;
      code.zero = false;
      for (; at >= 2 * kOctave; at -= kOctave) ++code.low_bits;
      code.table =
          static_cast<std::uint16_t>(static_cast<int>(shape) * kTableSigmas + at - kLeastSigma);
      // A value x may be 0 or 1: the error grows by 2x - 1 squared steps, the bits shrink.
      const std::vector<std::uint16_t>& row = tables_[code.table];
      const std::size_t zero = row.size() / 2 - 1;
      const double saved = std::log2(static_cast<double>(row[zero]) / row[zero + 1]);
      zero_below = code.low_bits > 0
                       ? 0.5f
                       : static_cast<float>(0.5 + 0.5 * kErrorOfBit * std::max(0.0, saved));
    }
  }
}

double Classes::cost_bits(Shape shape, int sigma, int value) const {
  const ClassCode code = this->code(shape, sigma);
  constexpr double kEscape = 8.0;
  // What a lost value does to the error, at the slope of the other coefficients' rate.
  if (code.zero) return std::abs(value) < 2 ? 3.0 * std::abs(value) : 8.0 * value * value;
  const std::vector<std::uint16_t>& row = tables_[code.table];
  const int most = static_cast<int>(row.size()) / 2 - 1;
  const int half = code.low_bits > 0 ? 1 << (code.low_bits - 1) : 0;
  const int symbol = (value + half) >> code.low_bits;
  const bool escape = symbol < -most || symbol > most;
  const std::uint16_t frequency =
      escape ? row.back() : row[static_cast<std::size_t>(symbol + most)];
  return 12.0 - std::log2(static_cast<double>(frequency)) + code.low_bits + (escape ? kEscape : 0);
}

}  // namespace kv
