#include "kv/eval/divergence.hh"

#include "kv/base/error.hh"

#include <algorithm>
#include <cmath>
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

}  // namespace kv
