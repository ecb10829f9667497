#include "kv/measure/continuation.hh"

#include "kv/eval/answers.hh"

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

std::int32_t likeliest(std::span<const float> logits) {
  return static_cast<std::int32_t>(std::ranges::max_element(logits) - logits.begin());
}

double nll_of(std::span<const float> logits, std::int32_t id) {
  const double most = std::ranges::max(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - most);
  return most + std::log(sum) - logits[static_cast<std::size_t>(id)];
}

}  // namespace

Continuation::Continuation(const Session& session, KvCache& cache,
                           std::span<const std::int32_t> prompt,
                           const std::function<void(std::int64_t)>& wait)
    : session_(session), cache_(cache), size_(std::ssize(prompt)) {
  // A cache keeps no hidden state: where it holds everything, its last token is run once more.
  if (cache_.size() >= size_) {
    for (std::int64_t layer = 0; wait && layer < cache_.layer_count(); ++layer) wait(layer);
    cache_.truncate(size_ - 1);
  }
  const std::span rest = prompt.subspan(static_cast<std::size_t>(cache_.size()));
  rows_run_ = std::ssize(rest);
  first_ = session_.model->forward(rest, cache_, {.before_layer = wait}).logits;
}

std::span<const float> Continuation::row(std::span<const float> rows, std::size_t index) const {
  return rows.subspan(index * first_.size(), first_.size());
}

bool Continuation::ends(std::int32_t id) const {
  return std::ranges::count(session_.model->config().eos_ids, id) > 0;
}

void Continuation::go_on(std::vector<std::int32_t>& said, std::int64_t count, bool one_line) {
  const auto done = [&] {
    if (std::ssize(said) >= count || ends(said.back())) return true;
    if (!one_line) return false;
    const std::string text = session_.tokenizer->decode(said, true);
    return text.find('\n', std::min(text.find_first_not_of(" \t\r\n"), text.size())) !=
           std::string::npos;
  };
  while (!done()) {
    const std::vector<float> logits =
        session_.model->forward(std::span(said).last(1), cache_).logits;
    said.push_back(likeliest(logits));
  }
  cache_.truncate(size_);
}

std::vector<std::int32_t> Continuation::says(std::int64_t count) {
  std::vector<std::int32_t> said = {likeliest(first_)};
  go_on(said, count, false);
  return said;
}

std::vector<std::int32_t> Continuation::says_beside(std::span<const std::int32_t> other,
                                                    std::span<const float> rows,
                                                    std::int64_t count) {
  std::vector<std::int32_t> said;
  for (std::size_t i = 0; i < other.size(); ++i) {
    said.push_back(likeliest(row(rows, i)));
    if (said.back() != other[i]) break;
  }
  if (said.size() == other.size() && said.back() == other.back()) return said;
  if (said.size() > 1) {
    session_.model->forward(std::span(said).first(said.size() - 1), cache_,
                            {.logits = LogitRows::kNone});
  }
  go_on(said, count, true);
  return said;
}

std::vector<float> Continuation::along(std::span<const std::int32_t> ids) {
  std::vector<float> rows = first_;
  if (ids.size() > 1) {
    const std::vector<float> behind =
        session_.model->forward(ids.first(ids.size() - 1), cache_, {.logits = LogitRows::kAll})
            .logits;
    rows.insert(rows.end(), behind.begin(), behind.end());
    cache_.truncate(size_);
  }
  return rows;
}

double Continuation::nll(std::span<const std::int32_t> ids) {
  const std::vector<float> rows = along(ids);
  double sum = 0;
  for (std::size_t i = 0; i < ids.size(); ++i) sum += nll_of(row(rows, i), ids[i]);
  return sum / static_cast<double>(ids.size());
}

}  // namespace kv
