#include "kv/generate/sampler.hh"

#include "kv/base/error.hh"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace kv {

Sampler::Sampler(const SamplerOptions& options) : options_(options), random_(options.seed) {
  if (!(options.temperature >= 0) || std::isinf(options.temperature)) {
    fail_usage("--temperature {}: give 0 (greedy) or more", options.temperature);
  }
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    fail_usage("--top-p {}: give a share over 0 and at most 1", options.top_p);
  }
  if (options.top_k < 0) fail_usage("--top-k {}: give 0 (all) or more", options.top_k);
}

std::int32_t Sampler::pick(std::span<const float> logits) {
  const auto best =
      static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  if (options_.temperature == 0) return best;

  order_.resize(logits.size());
  std::iota(order_.begin(), order_.end(), 0);
  const auto likelier = [&](std::int32_t a, std::int32_t b) {
    const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::size_t kept = order_.size();
  if (options_.top_k > 0) kept = std::min(kept, static_cast<std::size_t>(options_.top_k));
  std::partial_sort(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(kept),
                    order_.end(), likelier);

  const double top = logits[static_cast<std::size_t>(best)];
  mass_.resize(kept);
  double total = 0;
  for (std::size_t i = 0; i < kept; ++i) {
    mass_[i] = std::exp((logits[static_cast<std::size_t>(order_[i])] - top) / options_.temperature);
    total += mass_[i];
  }
  double within = 0;
  std::size_t nucleus = 0;
  while (nucleus < kept && within < options_.top_p * total) within += mass_[nucleus++];

  // 53 random bits: a double in [0, 1) without the library's own, unspecified mapping.
  double left = static_cast<double>(random_() >> 11) * 0x1p-53 * within;
  for (std::size_t i = 0; i < nucleus; ++i) {
    left -= mass_[i];
    if (left < 0) return order_[i];
  }
  return order_[nucleus - 1];
}

double negative_log_likelihood(std::span<const float> logits, std::int32_t id) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - top);
  return top + std::log(sum) - logits[static_cast<std::size_t>(id)];
}

std::string StopText::push(const std::string& text) {
  held_ += text;
  std::size_t cut = std::string::npos;
  for (const std::string& stop : stops_) cut = std::min(cut, held_.find(stop));
  if (cut != std::string::npos) {
    stopped_ = true;
    std::string shown = held_.substr(0, cut);
    held_.clear();
    return shown;
  }
  std::size_t keep = 0;  // the longest end that is a beginning of a stop string
  for (const std::string& stop : stops_) {
    for (std::size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n) {
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) keep = n;
    }
  }
  std::string shown = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return shown;
}

}  // namespace kv
