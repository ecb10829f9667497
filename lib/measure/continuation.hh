#pragma once
// What a model says behind a cache, and how likely it finds what others say.

#include "kv/session/session.hh"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace kv {

// A cache that holds a whole prompt, and what the model says of the token behind it.
class Continuation {
 public:
  // The cache holds the prompt's first tokens; `rest` are the others, of which there may be none.
  // `wait` as ForwardOptions::before_layer. The cache outlives this and has room for what is asked.
  Continuation(const Session& session, KvCache& cache, std::span<const std::int32_t> prompt,
               const std::function<void(std::int64_t)>& wait);

  // Likeliest tokens, one after another: at most `count`, and none behind one that ends the answer,
  // which is among them.
  std::vector<std::int32_t> says(std::int64_t count);
  // The same, where `other` is what another cache says of the prompt and `rows` are this one's
  // logits along it (along()): only from where the two part is there anything to run. Ends at a
  // line break behind text too, which no answer goes beyond.
  std::vector<std::int32_t> says_beside(std::span<const std::int32_t> other,
                                        std::span<const float> rows, std::int64_t count);
  // Logits of each of these tokens, from those before: [ids][vocab].
  std::vector<float> along(std::span<const std::int32_t> ids);
  // Negative log likelihood of these tokens, nats a token.
  double nll(std::span<const std::int32_t> ids);

  std::int64_t rows_run() const { return rows_run_; }  // of the prompt, to say the first token

 private:
  std::span<const float> row(std::span<const float> rows, std::size_t index) const;
  bool ends(std::int32_t id) const;
  void go_on(std::vector<std::int32_t>& said, std::int64_t count, bool one_line);

  const Session& session_;
  KvCache& cache_;
  std::int64_t size_;
  std::vector<float> first_;
  std::int64_t rows_run_ = 0;
};

}  // namespace kv
