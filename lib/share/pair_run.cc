#include "pair_run.hh"

#include "kv/documents/word_f1.hh"
#include "kv/model/torch_guard.hh"
#include "recompute.hh"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/log_softmax.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

namespace kv {
namespace {

std::int32_t most_likely(std::span<const float> logits) {
  return static_cast<std::int32_t>(std::ranges::max_element(logits) - logits.begin());
}

}  // namespace

double TokenDivergences::mean() const {
  const double sum = std::accumulate(divergence.begin(), divergence.end(), 0.0);
  return divergence.empty() ? 0 : sum / static_cast<double>(divergence.size());
}

PairRun::PairRun(const Session& from, const Session& to, const PairPrompt& prompt,
                 std::int64_t answer_tokens)
    : from_(*from.model),
      to_(*to.model),
      session_(to),
      prompt_(prompt),
      most_tokens_(answer_tokens),
      text_tokens_(std::ssize(prompt.text)) {
  const std::int64_t behind =
      std::ssize(prompt.question) + std::max(answer_tokens, std::ssize(prompt.completion));
  for (std::optional<KvCache>* cache : {&a_, &b_, &mended_}) {
    cache->emplace(to_.make_cache({.capacity = text_tokens_ + behind}));
  }
  ForwardOptions options{.logits = LogitRows::kNone};
  options.hidden_layers.resize(static_cast<std::size_t>(layers()));
  std::iota(options.hidden_layers.begin(), options.hidden_layers.end(), 0);
  hidden_ = from_.forward(prompt.text, *a_, options).hidden;
  to_.forward(prompt.text, *b_, {.logits = LogitRows::kNone});
  token_layers_ += 2 * static_cast<double>(text_tokens_ * layers());
  answer();
  mended_->extend(0, text_tokens_);
}

void PairRun::hold(std::int64_t rows) {
  for (std::optional<KvCache>* cache : {&a_, &b_, &mended_}) {
    if ((*cache)->size() == text_tokens_ + rows) continue;
    (*cache)->truncate(text_tokens_);
    (*cache)->extend(text_tokens_, rows);
  }
}

void PairRun::answer() {
  const std::vector<std::int32_t>& ends = to_.config().eos_ids;
  std::vector<at::Tensor> rows;
  std::vector<std::int32_t> next = prompt_.question;
  while (std::ssize(reference_) < most_tokens_) {
    const std::vector<float> logits = to_.forward(next, *b_).logits;
    token_layers_ += static_cast<double>(std::ssize(next) * layers());
    inferring([&] {
      rows.push_back(
          at::log_softmax(at::from_blob(const_cast<float*>(logits.data()), {1, std::ssize(logits)},
                                        at::TensorOptions(at::kFloat)),
                          1));
    });
    next = {most_likely(logits)};
    reference_.push_back(next[0]);
    if (std::ranges::count(ends, next[0]) > 0) break;
  }
  inferring([&] { log_p_ = at::cat(rows); });
}

// Embedded: the question and what stands behind it.
at::Tensor PairRun::rows(std::span<const std::int32_t> behind) {
  std::vector<std::int32_t> ids = prompt_.question;
  ids.insert(ids.end(), behind.begin(), behind.end());
  return to_.embed(ids);
}

void PairRun::run(std::int64_t layer, at::Tensor& rows, KvCache& cache, std::int64_t first_row) {
  std::vector<std::int64_t> slots(static_cast<std::size_t>(rows.size(0)));
  std::iota(slots.begin(), slots.end(), text_tokens_ + first_row);
  hold(first_row + rows.size(0));
  to_.run_layer(layer, rows, slots, cache);
  token_layers_ += static_cast<double>(rows.size(0));
}

// The text's keys and values in layers [first, end), from A's E at `first`.
void PairRun::recompute_from(std::int64_t first, std::int64_t end) {
  if (mended_layers_.first == first && mended_layers_.second >= end) return;
  hold(0);
  at::Tensor text = to_.hidden_from(hidden_[static_cast<std::size_t>(first)]);
  for (std::int64_t layer = first; layer < end; ++layer) {
    run_rows(to_, layer, text, *mended_, layer + 1 == end);
  }
  token_layers_ += static_cast<double>((end - first) * text_tokens_);
  mended_layers_ = {first, end};
}

TokenDivergences PairRun::compare(const at::Tensor& rows) const {
  const auto tokens = std::ssize(reference_);
  const at::Tensor logits = to_.logits(rows.narrow(0, rows.size(0) - tokens, tokens));
  return inferring([&] {
    const at::Tensor log_q = at::log_softmax(logits.to(at::kCPU), 1);
    const std::vector<float> by_token = Model::floats_of((log_p_.exp() * (log_p_ - log_q)).sum(1));
    TokenDivergences found;
    for (const float value : by_token) {
      if (!std::isfinite(value)) throw std::logic_error("PairRun: a divergence is not finite");
      found.divergence.push_back(std::max(0.0f, value));
    }
    const at::Tensor said = log_q.argmax(1);
    for (std::int64_t i = 0; i < tokens; ++i) {
      found.same += said[i].item<std::int64_t>() == reference_[static_cast<std::size_t>(i)];
    }
    return found;
  });
}

// From the input of `layer` on, all from one cache.
TokenDivergences PairRun::finish(std::int64_t layer, at::Tensor rows, KvCache& cache) {
  for (; layer < layers(); ++layer) run(layer, rows, cache);
  return compare(rows);
}

std::vector<TokenDivergences> PairRun::of_groups(std::span<const LayerGroup> groups) {
  // Those that begin alike follow each other, so that one recomputation serves them all.
  std::map<std::int64_t, std::map<std::int64_t, std::vector<std::size_t>>> by_begin;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const LayerGroup& group = groups[i];
    by_begin[group.count() == 0 ? 0 : group.first][group.end].push_back(i);
  }
  std::vector<TokenDivergences> found(groups.size());
  at::Tensor before = rows(std::span(reference_).first(reference_.size() - 1));
  std::int64_t reached = 0;  // the layer whose input `before` is, over A's cache
  for (const auto& [begin, ends] : by_begin) {
    for (; reached < begin; ++reached) run(reached, before, *a_);
    const std::int64_t last = ends.rbegin()->first;
    if (last > begin) recompute_from(begin, last);
    at::Tensor inside = before.clone();
    std::int64_t layer = begin;
    for (const auto& [end, indices] : ends) {
      for (; layer < end; ++layer) run(layer, inside, *mended_);
      // Of (0, 0) `end` is no further than `begin`: all is A's.
      const TokenDivergences result = finish(std::max(begin, end), inside.clone(), *a_);
      for (const std::size_t index : indices) found[index] = result;
    }
  }
  return found;
}

std::vector<double> PairRun::sensitivities(std::int64_t first) {
  std::vector<double> found;
  at::Tensor before = rows(std::span(reference_).first(reference_.size() - 1));
  for (std::int64_t layer = 0; layer < layers(); ++layer) {
    if (layer >= first) {
      at::Tensor reused = before.clone();
      run(layer, reused, *a_);
      found.push_back(finish(layer + 1, reused, *b_).mean());
    } else {
      found.push_back(0);
    }
    run(layer, before, *b_);
  }
  return found;
}

PairRun::CacheOf PairRun::caches_of(const std::optional<LayerGroup>& group) {
  if (!group) {
    return [this](std::int64_t) -> KvCache& { return *b_; };
  }
  if (group->count() > 0) recompute_from(group->first, group->end);
  return [this, within = *group](std::int64_t layer) -> KvCache& {
    return layer >= within.first && layer < within.end ? *mended_ : *a_;
  };
}

double PairRun::nll(const CacheOf& cache) {
  const std::vector<std::int32_t>& wanted = prompt_.completion;
  at::Tensor all = rows(std::span(wanted).first(wanted.size() - 1));
  for (std::int64_t layer = 0; layer < layers(); ++layer) run(layer, all, cache(layer));
  const auto tokens = std::ssize(wanted);
  const at::Tensor logits = to_.logits(all.narrow(0, all.size(0) - tokens, tokens));
  return inferring([&] {
    const at::Tensor log_q = at::log_softmax(logits.to(at::kCPU), 1);
    double sum = 0;
    for (std::int64_t i = 0; i < tokens; ++i) {
      sum -= log_q[i][wanted[static_cast<std::size_t>(i)]].item<double>();
    }
    return sum / static_cast<double>(tokens);
  });
}

std::string PairRun::greedy(const CacheOf& cache) {
  const std::vector<std::int32_t>& ends = to_.config().eos_ids;
  std::vector<std::int32_t> said, next = prompt_.question;
  std::int64_t row = 0;
  while (true) {
    at::Tensor now = to_.embed(next);
    for (std::int64_t layer = 0; layer < layers(); ++layer) run(layer, now, cache(layer), row);
    row += std::ssize(next);
    const std::vector<float> logits =
        Model::floats_of(to_.logits(now.narrow(0, now.size(0) - 1, 1)));
    next = {most_likely(logits)};
    if (std::ranges::count(ends, next[0]) > 0) break;
    said.push_back(next[0]);
    if (std::ssize(said) == most_tokens_) break;
  }
  return session_.tokenizer->decode(said, true);
}

Judgement PairRun::judge(const std::optional<LayerGroup>& group) {
  const CacheOf cache = caches_of(group);
  Judgement judgement;
  if (!prompt_.completion.empty()) judgement.nll = nll(cache);
  judgement.answer = greedy(cache);
  judgement.f1 = word_f1(judgement.answer, prompt_.completion_text);
  return judgement;
}

}  // namespace kv
