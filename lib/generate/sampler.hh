#pragma once
// From one row of logits to the next token, and where a text must stop.

#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace kv {

struct SamplerOptions {
  double temperature = 0;  // 0: greedy, the lowest id on a tie
  double top_p = 1;        // (0, 1]: smallest set of most likely tokens with this mass
  std::int64_t top_k = 0;  // 0: all
  std::uint64_t seed = 0;
};

// The same seed and logits give the same tokens on every machine: the random bits are
// mt19937_64's and the arithmetic is double.
class Sampler {
 public:
  // Throws kUsage when a value is out of range.
  explicit Sampler(const SamplerOptions& options);
  std::int32_t pick(std::span<const float> logits);

 private:
  SamplerOptions options_;
  std::mt19937_64 random_;
  std::vector<std::int32_t> order_;
  std::vector<double> mass_;
};

// -log softmax(logits)[id] in nats.
double negative_log_likelihood(std::span<const float> logits, std::int32_t id);

// Holds text back while it may be the beginning of a stop string.
class StopText {
 public:
  explicit StopText(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  // What may be shown now; sets stopped() when a stop string was met, which is never shown.
  std::string push(const std::string& text);
  std::string finish() { return std::exchange(held_, {}); }
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace kv
