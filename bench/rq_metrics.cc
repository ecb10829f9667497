#include "rq_metrics.hh"

#include "kv/base/error.hh"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <thread>

namespace kv {
namespace {

std::size_t top_of(const float* row, std::size_t vocab) {
  return static_cast<std::size_t>(std::max_element(row, row + vocab) - row);
}

// log of the sum of exponentials, max taken out.
double log_sum(const float* row, std::size_t vocab, double most) {
  double sum = 0;
  for (std::size_t i = 0; i < vocab; ++i) sum += std::exp(static_cast<double>(row[i]) - most);
  return most + std::log(sum);
}

// Rows are shared out over the processors.
template <typename Body>
void each_row(std::size_t rows, const Body& body) {
  const std::size_t workers = std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1,
                                                      std::max<std::size_t>(rows, 1));
  std::vector<std::jthread> threads;
  for (std::size_t worker = 1; worker < workers; ++worker) {
    threads.emplace_back([&, worker] {
      for (std::size_t row = worker; row < rows; row += workers) body(row);
    });
  }
  for (std::size_t row = 0; row < rows; row += workers) body(row);
}

}  // namespace

Reference::Reference(std::vector<float> logits, std::int64_t vocab,
                     std::vector<std::int32_t> targets)
    : logits_(std::move(logits)),
      probabilities_(logits_.size()),
      targets_(std::move(targets)),
      vocab_(static_cast<std::size_t>(std::max<std::int64_t>(vocab, 1))) {
  const std::size_t rows = logits_.size() / vocab_;
  if (rows * vocab_ != logits_.size() || targets_.size() > rows) {
    fail_usage("-: {} logits and {} targets are not rows of {}", logits_.size(), targets_.size(),
               vocab);
  }
  for (const std::int32_t target : targets_) {
    if (target < 0 || target >= vocab) fail_usage("-: token {} is not below {}", target, vocab);
  }
  log_sums_.resize(rows);
  tops_.resize(rows);
  each_row(rows, [&](std::size_t row) {
    const float* values = logits_.data() + row * vocab_;
    const std::size_t top = top_of(values, vocab_);
    tops_[row] = static_cast<std::int32_t>(top);
    log_sums_[row] = log_sum(values, vocab_, values[top]);
    float* out = probabilities_.data() + row * vocab_;
    for (std::size_t i = 0; i < vocab_; ++i) {
      out[i] = static_cast<float>(std::exp(static_cast<double>(values[i]) - log_sums_[row]));
    }
  });
}

TokenMetrics Reference::compare_row(std::size_t row, const float* other) const {
  const float* own = logits_.data() + row * vocab_;
  const float* probability = probabilities_.data() + row * vocab_;
  const std::size_t top = top_of(other, vocab_);
  const double sum = log_sum(other, vocab_, other[top]);
  const double shift = log_sums_[row] - sum;
  // Differences first: what is equal cancels exactly.
  double kld = 0;
  for (std::size_t i = 0; i < vocab_; ++i) {
    kld += static_cast<double>(probability[i]) *
           (static_cast<double>(own[i]) - static_cast<double>(other[i]) - shift);
  }
  TokenMetrics metrics{kld, static_cast<std::int32_t>(top) == tops_[row]};
  if (row < targets_.size()) {
    const auto target = static_cast<std::size_t>(targets_[row]);
    metrics.nll = sum - static_cast<double>(other[target]);
    metrics.reference_nll = log_sums_[row] - static_cast<double>(own[target]);
  }
  return metrics;
}

std::vector<TokenMetrics> Reference::compare(std::span<const float> logits) const {
  if (logits.size() != logits_.size()) {
    fail_usage("-: {} logits, the reference has {}", logits.size(), logits_.size());
  }
  std::vector<TokenMetrics> out(rows());
  each_row(rows(),
           [&](std::size_t row) { out[row] = compare_row(row, logits.data() + row * vocab_); });
  return out;
}

double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double at = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
}

std::vector<std::vector<std::size_t>> bootstrap_picks(std::size_t count, std::size_t rounds,
                                                      std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::vector<std::size_t>> picks(rounds, std::vector<std::size_t>(count));
  for (auto& round : picks) {
    // The bias of the remainder is 2^-60 here; distributions differ between libraries.
    for (std::size_t& pick : round) pick = static_cast<std::size_t>(random() % count);
  }
  return picks;
}

std::optional<Interval> bootstrap(const std::vector<std::vector<std::size_t>>& picks,
                                  std::size_t count, const Statistic& statistic) {
  std::vector<std::size_t> all(count);
  std::iota(all.begin(), all.end(), std::size_t{0});
  const std::optional<double> value = statistic(all);
  if (!value) return std::nullopt;
  std::vector<double> samples;
  for (const auto& round : picks) {
    if (const std::optional<double> sample = statistic(round)) samples.push_back(*sample);
  }
  if (20 * samples.size() < 19 * picks.size() || samples.empty()) {
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    return Interval{*value, kNan, kNan};
  }
  return Interval{*value, quantile(samples, 0.025), quantile(samples, 0.975)};
}

std::optional<double> bits_at_kld(std::vector<RatePoint> points, double kld) {
  std::erase_if(points, [](const RatePoint& point) { return point.kld <= 0 || point.bits <= 0; });
  std::sort(points.begin(), points.end(),
            [](const RatePoint& a, const RatePoint& b) { return a.bits < b.bits; });
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (points[i].kld == kld) return points[i].bits;
    if (i + 1 == points.size() || points[i].kld < kld || points[i + 1].kld > kld) continue;
    const double share =
        std::log(points[i].kld / kld) / std::log(points[i].kld / points[i + 1].kld);
    return points[i].bits * std::pow(points[i + 1].bits / points[i].bits, share);
  }
  return std::nullopt;
}

}  // namespace kv
