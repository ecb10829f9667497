#pragma once
// A prompt behind a cache, and what the model says: what kvgen does.

#include "kv/base/file.hh"
#include "kv/generate/sampler.hh"
#include "kv/session/session.hh"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace kv {

// A token as it comes; `t_ns` since the generator was made.
struct TokenEvent {
  std::int64_t t_ns = 0;
  std::int32_t id = 0;
  std::string text;  // what can be shown now: whole characters, stop strings held back
};

struct GenerateOptions {
  std::int64_t max_tokens = 128;
  SamplerOptions sampler;
  std::vector<std::string> stops;
  bool ignore_eos = false;
  std::function<void(const TokenEvent&)> on_token;
  std::function<void(std::span<const float>)> on_logits;  // each row a token is chosen from
};

struct GenerateStats {
  std::int64_t prompt_tokens = 0;
  std::int64_t generated = 0;
  double prefill_s = 0;         // of the prompt
  double first_token_s = 0;     // since the generator was made
  double tokens_per_s = 0;      // behind the first
  const char* stopped_by = "";  // "eos", "stop", "length", "context"
};

// Where generation begins: a cache, the id of its last token (run again when the prompt is empty,
// since a cache does not hold what the last token said), and the prompt behind it.
struct Start {
  KvCache& cache;
  std::int32_t last_id = 0;
  std::vector<std::int32_t> prompt;
  // Returns when a layer of the cache is ready, where that is still being read (CacheLoad::wait()).
  std::function<void(std::int64_t)> wait = {};
};

// Throws kInput when there is neither cache nor prompt, or both exceed the model's context.
GenerateStats generate(const Session& session, const Start& start, const GenerateOptions& options);

struct Score {
  double nll = 0;  // nats, all tokens
  std::int64_t tokens = 0;
};

// Negative log likelihood of `text` behind cache and prompt. Throws as generate() does.
Score score(const Session& session, const Start& start, const std::vector<std::int32_t>& text,
            const std::function<void(std::span<const float>)>& on_logits);

// f32 rows as a NumPy array (format 1.0). The header stands first and has the number of rows, so
// they are held until finish().
class NpyWriter {
 public:
  NpyWriter(Output& output, std::int64_t columns);
  void row(std::span<const float> values);
  void finish();

 private:
  Output& output_;
  std::int64_t columns_;
  std::vector<float> rows_;
};

}  // namespace kv
