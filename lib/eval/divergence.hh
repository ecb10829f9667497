#pragma once
// How far one model's predictions are from another's, token by token.

#include <cstdint>
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

}  // namespace kv
