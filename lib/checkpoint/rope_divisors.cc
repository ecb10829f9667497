#include "rope_divisors.hh"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

namespace kv {
namespace {

constexpr double kTolerance = 1e-5;
constexpr std::int64_t kLlama3Context = 8192;
constexpr double kMostContext = 1e12;

// Of pair i, in tokens.
double wavelength(const Rope& rope, std::size_t pair, std::size_t pairs) {
  return 2 * std::numbers::pi *
         std::pow(rope.theta, static_cast<double>(pair) / static_cast<double>(pairs));
}

// Llama 3: long wavelengths are stretched by the factor, short ones left, those between blended.
double divisor(const Rope& rope, double length) {
  const double context = static_cast<double>(rope.original_context);
  if (length < context / rope.high_freq_factor) return 1;
  if (length > context / rope.low_freq_factor) return rope.factor;
  const double smooth =
      (context / length - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return 1 / ((1 - smooth) / rope.factor + smooth);
}

bool makes(const Rope& rope, std::span<const float> divisors) {
  for (std::size_t i = 0; i < divisors.size(); ++i) {
    const double wanted = divisor(rope, wavelength(rope, i, divisors.size()));
    if (!(std::abs(divisors[i] - wanted) <= kTolerance * wanted)) return false;
  }
  return true;
}

// A blended pair gives the context away. The one nearest to half way is told most exactly.
std::optional<std::int64_t> context_of(const Rope& rope, std::span<const float> divisors) {
  double best = 0, context = 0;
  for (std::size_t i = 0; i < divisors.size(); ++i) {
    const double smooth = (1.0 / divisors[i] - 1 / rope.factor) / (1 - 1 / rope.factor);
    const double from_ends = std::min(smooth, 1 - smooth);
    if (!(from_ends > best)) continue;
    best = from_ends;
    context = wavelength(rope, i, divisors.size()) *
              (rope.low_freq_factor + smooth * (rope.high_freq_factor - rope.low_freq_factor));
  }
  if (!(context >= 1 && context < kMostContext)) return std::nullopt;
  return std::llround(context);
}

}  // namespace

std::optional<Rope> scaling_of_divisors(const Rope& plain, std::span<const float> divisors) {
  Rope rope = plain;
  rope.factor = 1;
  if (std::ranges::all_of(divisors, [](float d) { return d == 1; })) return rope;
  rope.scaling = Rope::Scaling::kLlama3;
  rope.factor = divisors.back();
  if (!(rope.factor > 1 && rope.factor <= std::numeric_limits<float>::max())) return std::nullopt;
  std::vector<std::int64_t> contexts = {kLlama3Context};
  if (plain.original_context > 0) contexts.insert(contexts.begin(), plain.original_context);
  if (const auto context = context_of(rope, divisors)) contexts.push_back(*context);
  for (const std::int64_t context : contexts) {
    rope.original_context = context;
    if (makes(rope, divisors)) return rope;
  }
  return std::nullopt;
}

}  // namespace kv
