#pragma once
// How far one model's predictions are from another's, token by token, and statistics of it.

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace kv {

struct TokenMetrics {
  double kld = 0;         // KL(reference || other), nats
  bool same_top = false;  // both find the same token most likely (the lowest id on a tie)
  double nll = 0;         // of the true token, in the other; 0 where there is none
  double reference_nll = 0;
};

// Rows of logits [rows][vocab] that others are compared with. Keeps the logits and their
// probabilities: 8 bytes a value.
class Reference {
 public:
  // `targets[i]` is the true token behind row i; rows beyond have none. Throws kUsage when the
  // logits are no whole rows, or on a target outside the vocabulary.
  Reference(std::vector<float> logits, std::int64_t vocab, std::vector<std::int32_t> targets);

  std::size_t rows() const { return log_sums_.size(); }
  std::size_t targets() const { return targets_.size(); }
  // One entry a row; equal logits give a KLD of exactly 0. Throws kUsage on another size.
  std::vector<TokenMetrics> compare(std::span<const float> logits) const;

 private:
  TokenMetrics compare_row(std::size_t row, const float* other) const;

  std::vector<float> logits_, probabilities_;
  std::vector<double> log_sums_;
  std::vector<std::int32_t> tops_, targets_;
  std::size_t vocab_;
};

// Linear between the neighbours, `share` in [0, 1]; 0 of no values.
double quantile(std::vector<double> values, double share);

struct Interval {
  double value = 0, low = 0, high = 0;
};

// Which of `count` windows each of `rounds` samples takes, with repetition: the same seed gives the
// same picks on every machine, so that two figures resampled with them are paired.
std::vector<std::vector<std::size_t>> bootstrap_picks(std::size_t count, std::size_t rounds,
                                                      std::uint64_t seed);

// The statistic over all windows and the 95 % percentile interval over the picks. Nothing when the
// statistic is not defined over all windows; an interval of NaN when it is not in over 5 % of the
// samples.
using Statistic = std::function<std::optional<double>(std::span<const std::size_t>)>;
std::optional<Interval> bootstrap(const std::vector<std::vector<std::size_t>>& picks,
                                  std::size_t count, const Statistic& statistic);

struct RatePoint {
  double bits = 0, kld = 0;
};

// Bits at which a curve has this KLD: the line between neighbours in log bits and log KLD, at the
// lowest bits where the curve comes down through it. Points with a KLD of 0 are left out. Nothing
// where the points do not reach: no extrapolation.
std::optional<double> bits_at_kld(std::vector<RatePoint> points, double kld);

}  // namespace kv
