#include "kv/blend/select.hh"

#include "kv/base/error.hh"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <random>

namespace kv {
namespace {

template <typename T>
bool parses(std::string_view text, T& value) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end == text.data() + text.size();
}

std::vector<std::int64_t> ascending(std::vector<std::int64_t> slots) {
  std::ranges::sort(slots);
  return slots;
}

double mean_at(std::span<const double> scores, std::span<const std::int64_t> slots) {
  double sum = 0;
  for (const std::int64_t slot : slots) sum += scores[static_cast<std::size_t>(slot)];
  return slots.empty() ? 0 : sum / static_cast<double>(slots.size());
}

}  // namespace

Selection parse_selection(std::string_view name) {
  if (name == "hkvd") return Selection::kHkvd;
  if (name == "first") return Selection::kFirst;
  if (name == "qattn") return Selection::kQuestion;
  if (name == "random") return Selection::kRandom;
  if (name == "none") return Selection::kNone;
  fail_usage("-: selection '{}': must be hkvd, first, qattn, random or none", name);
}

Measure parse_measure(std::string_view name) {
  if (name == "v") return Measure::kValues;
  if (name == "k") return Measure::kKeys;
  if (name == "kv") return Measure::kBoth;
  fail_usage("-: measure '{}': must be v, k or kv", name);
}

std::int64_t Amount::of(std::int64_t candidates) const {
  if (tokens >= 0) return std::min(tokens, candidates);
  return std::llround(share * static_cast<double>(candidates));
}

Amount parse_amount(std::string_view text) {
  Amount amount;
  if (text.ends_with('%')) {
    double percent = 0;
    if (parses(text.substr(0, text.size() - 1), percent) && percent >= 0 && percent <= 100) {
      amount.share = percent / 100;
      return amount;
    }
  } else if (parses(text, amount.tokens) && amount.tokens >= 0) {
    return amount;
  }
  fail_usage("-: '{}' of the tokens: give a share from 0% to 100%, or a number", text);
}

std::vector<Amount> parse_amounts(std::string_view text) {
  std::vector<Amount> amounts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(':', begin), text.size());
    const Amount next = parse_amount(text.substr(begin, end - begin));
    if (!amounts.empty() && (next.tokens < 0) == (amounts.back().tokens < 0) &&
        (next.share > amounts.back().share || next.tokens > amounts.back().tokens)) {
      fail_usage("-: '{}': each amount must be at most the one before", text);
    }
    amounts.push_back(next);
    begin = end + 1;
  }
  return amounts;
}

std::vector<double> deviations(std::span<const float> before, std::span<const float> after,
                               std::int64_t width) {
  const auto step = static_cast<std::size_t>(width);
  std::vector<double> sums(before.size() / step);
  for (std::size_t token = 0; token < sums.size(); ++token) {
    for (std::size_t i = token * step; i < (token + 1) * step; ++i) {
      const double difference = static_cast<double>(after[i]) - before[i];
      sums[token] += difference * difference;
    }
  }
  return sums;
}

std::vector<double> joined(std::span<const double> keys, std::span<const double> values,
                           std::span<const std::int64_t> slots) {
  const double key_mean = mean_at(keys, slots), value_mean = mean_at(values, slots);
  std::vector<double> scores(keys.size());
  for (const std::int64_t slot : slots) {
    const auto i = static_cast<std::size_t>(slot);
    scores[i] =
        (key_mean > 0 ? keys[i] / key_mean : 0) + (value_mean > 0 ? values[i] / value_mean : 0);
  }
  return scores;
}

std::vector<std::int64_t> highest(std::span<const std::int64_t> slots,
                                  std::span<const double> scores, std::int64_t count) {
  std::vector<std::int64_t> chosen(slots.begin(), slots.end());
  const auto score = [&](std::int64_t slot) {
    const double value = scores[static_cast<std::size_t>(slot)];
    return std::isnan(value) ? std::numeric_limits<double>::infinity() : value;
  };
  std::ranges::sort(chosen, [&](std::int64_t a, std::int64_t b) {
    return score(a) != score(b) ? score(a) > score(b) : a < b;
  });
  chosen.resize(std::min(chosen.size(), static_cast<std::size_t>(count)));
  return ascending(std::move(chosen));
}

std::vector<std::int64_t> first_of(std::span<const Stretch> stretches, const Amount& amount) {
  std::vector<std::int64_t> chosen;
  if (amount.tokens < 0) {
    for (const Stretch& stretch : stretches) {
      const double exact = amount.share * static_cast<double>(stretch.count);
      // 0.15 x 100 is a little over 15.
      const std::int64_t count = std::llround(std::ceil(exact - 1e-9));
      for (std::int64_t i = 0; i < count; ++i) chosen.push_back(stretch.begin + i);
    }
    return chosen;
  }
  std::vector<std::pair<std::int64_t, std::int64_t>> by_offset;
  for (const Stretch& stretch : stretches) {
    for (std::int64_t i = 0; i < stretch.count; ++i) by_offset.emplace_back(i, stretch.begin + i);
  }
  std::ranges::sort(by_offset);
  by_offset.resize(std::min(by_offset.size(), static_cast<std::size_t>(amount.tokens)));
  for (const auto& entry : by_offset) chosen.push_back(entry.second);
  return ascending(std::move(chosen));
}

std::vector<std::int64_t> random_of(std::span<const std::int64_t> slots, std::int64_t count,
                                    std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::int64_t> chosen(slots.begin(), slots.end());
  const auto wanted = std::min(chosen.size(), static_cast<std::size_t>(count));
  // The first steps of Fisher and Yates. The standard's distributions differ between libraries;
  // the remainder's bias is below 2^-40.
  for (std::size_t i = 0; i < wanted; ++i) {
    std::swap(chosen[i], chosen[i + random() % (chosen.size() - i)]);
  }
  chosen.resize(wanted);
  return ascending(std::move(chosen));
}

}  // namespace kv
