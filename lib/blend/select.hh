#pragma once
// Which tokens are recomputed (CacheBlend, EuroSys 2025, section 4.3): numbers in, decisions out.
// Tokens are named by their slot in the fused cache.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace kv {

enum class Selection {
  kHkvd,      // those whose KV deviates most at the check layer, as the paper has it
  kFirst,     // the first ones of each chunk: what lacked context most when it was prefilled alone
  kQuestion,  // those that the question attends to most
  kRandom,    // for comparison
  kNone       // full reuse
};
Selection parse_selection(std::string_view name);  // "hkvd", "first", "qattn", ...; throws kUsage

// Whose deviation hkvd goes by: squared differences of a token's values, summed over all heads.
enum class Measure {
  kValues,
  kKeys,
  kBoth  // each divided by its mean over the tokens asked about, then added
};
Measure parse_measure(std::string_view name);  // "v", "k", "kv"; throws kUsage

// How many tokens: a share of those that could be, rounded to the nearest, or a number.
struct Amount {
  double share = 0;          // 0 to 1
  std::int64_t tokens = -1;  // -1: by share

  std::int64_t of(std::int64_t candidates) const;
  bool operator==(const Amount&) const = default;
};
Amount parse_amount(std::string_view text);  // "15%", "200"; throws kUsage
// "30%:20%:15%", descending where they are alike; throws kUsage.
std::vector<Amount> parse_amounts(std::string_view text);

// Tokens that stand together and were prefilled together, in slots.
struct Stretch {
  std::int64_t begin = 0, count = 0;

  bool operator==(const Stretch&) const = default;
};

// By token the squared distance of two rows of `width` values.
std::vector<double> deviations(std::span<const float> before, std::span<const float> after,
                               std::int64_t width);
// One score from both parts' deviations, of the tokens of these slots.
std::vector<double> joined(std::span<const double> keys, std::span<const double> values,
                           std::span<const std::int64_t> slots);

// All return slots in ascending order, `count` of them or all there are.
// Those of `slots` with the highest scores (by slot); of equals the earlier. NaN is the highest.
std::vector<std::int64_t> highest(std::span<const std::int64_t> slots,
                                  std::span<const double> scores, std::int64_t count);
// By share: of each stretch its first ceil(share x count); by number: those with the fewest tokens
// of their stretch before them.
std::vector<std::int64_t> first_of(std::span<const Stretch> stretches, const Amount& amount);
// The same for the same seed, on every machine.
std::vector<std::int64_t> random_of(std::span<const std::int64_t> slots, std::int64_t count,
                                    std::uint64_t seed);

}  // namespace kv
