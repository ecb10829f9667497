#pragma once
// One prompt through two models: what B says behind its own cache of a text, and behind A's with
// some of the layers recomputed. Private to the folder.

#include "kv/session/session.hh"
#include "kv/share/share_plan.hh"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace kv {

struct PairPrompt {
  std::vector<std::int32_t> text, question;  // the text is what a cache is kept of
  std::vector<std::int32_t> completion;      // what should be said, or empty
  std::string completion_text;
};

struct TokenDivergences {
  std::vector<double> divergence;  // by token of B's own answer, nats
  std::int64_t same = 0;           // tokens that would be said too
  double mean() const;
};

struct Judgement {
  double nll = 0;  // of the completion, nats a token
  double f1 = 0;   // of the greedy answer
  std::string answer;
};

class PairRun {
 public:
  // Prefills the text with both models and lets B answer. All outlive this. The question and the
  // text have at least one token.
  PairRun(const Session& from, const Session& to, const PairPrompt& prompt,
          std::int64_t answer_tokens);

  // Each group's divergence, in the order given, work shared among those that begin alike.
  std::vector<TokenDivergences> of_groups(std::span<const LayerGroup> groups);
  // When layer `first` and each behind it is the only one reused.
  std::vector<double> sensitivities(std::int64_t first);
  // What comes of a group; of B's own cache without one.
  Judgement judge(const std::optional<LayerGroup>& group);

  std::int64_t answer_tokens() const { return std::ssize(reference_); }
  double token_layers() const { return token_layers_; }  // computed so far

 private:
  using CacheOf = std::function<KvCache&(std::int64_t)>;  // of a layer

  std::int64_t layers() const { return std::ssize(to_.config().layers); }
  void answer();
  // Slots behind the text, in all caches: no more than have been written, or are about to be. What
  // nobody wrote may be anything, and a weight of zero does not make nothing of NaN.
  void hold(std::int64_t rows);
  at::Tensor rows(std::span<const std::int32_t> behind);
  void run(std::int64_t layer, at::Tensor& rows, KvCache& cache, std::int64_t first_row = 0);
  void recompute_from(std::int64_t first, std::int64_t end);
  CacheOf caches_of(const std::optional<LayerGroup>& group);
  TokenDivergences compare(const at::Tensor& rows) const;
  TokenDivergences finish(std::int64_t layer, at::Tensor rows, KvCache& cache);
  double nll(const CacheOf& cache);
  std::string greedy(const CacheOf& cache);

  const Model &from_, &to_;
  const Session& session_;
  const PairPrompt& prompt_;
  std::int64_t most_tokens_, text_tokens_;
  std::optional<KvCache> a_, b_, mended_;   // of A, of B, and B's layers from A's E
  std::vector<std::vector<float>> hidden_;  // A's E, by layer
  std::pair<std::int64_t, std::int64_t> mended_layers_{-1, -1};
  std::vector<std::int32_t> reference_;  // B's own answer
  at::Tensor log_p_;                     // of its tokens' distributions
  double token_layers_ = 0;
};

}  // namespace kv
