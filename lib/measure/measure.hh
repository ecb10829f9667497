#pragma once
// Recipes measured over prompts, against a full prefill of the same tokens: what kveval does.

#include "kv/eval/prompts.hh"
#include "kv/eval/results.hh"
#include "kv/measure/stage.hh"
#include "kv/prefill/prefill.hh"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace kv {

struct MeasureOptions {
  std::string question_format = "\n\nQuestion: {}\nAnswer:";  // {}: the question
  bool parse_special = false;                                 // of chunks and question
  bool whole = false;             // a prompt's chunks are one text, prefilled as one
  bool importance = false;        // measured and kept in the caches that recipes are given
  std::optional<DType> dtype;     // of those caches; unset: the compute dtype
  std::int64_t next_tokens = 32;  // compared, and of an answer: at most so many
  std::string keep;               // a folder for each recipe's last stream; empty: none
  MakeStages make_stages;
};

// A prompt as tokens.
struct PreparedPrompt {
  EvalPrompt prompt;
  std::string fingerprint;                         // with all that Measurer::setup() stands for
  std::string question;                            // as it stands behind the chunks
  std::vector<std::int32_t> ids;                   // all
  std::vector<std::vector<std::int32_t>> answers;  // as they would stand behind
};

struct RecipeRun;

class Measurer {
 public:
  // The session outlives this. Throws kUsage for a format without {}, and as Prefiller does.
  Measurer(const Session& session, MeasureOptions options);

  // Fingerprint of the model and the options that make a difference to what is measured.
  const std::string& setup() const { return setup_; }
  // Throws kInput, naming the line, for more than the model's context.
  PreparedPrompt prepare(const EvalPrompt& prompt) const;
  // `on_result` is told the full prefill, when `full` is set, and each recipe, in this order. What
  // a recipe throws names it and the prompt.
  void run(const PreparedPrompt& prompt, bool full, const std::vector<std::string>& recipes,
           const std::function<void(const Result&)>& on_result);

 private:
  struct Full;
  std::vector<Document> documents_of(const EvalPrompt& prompt) const;
  Full run_full(const PreparedPrompt& prompt) const;
  Result run_recipe_on(const std::string& recipe, const PreparedPrompt& prompt,
                       const MemoryFile& chunks, const Full& full) const;
  Result result_of(const std::string& recipe, const PreparedPrompt& prompt,
                   std::span<const std::int32_t> said) const;
  double forward_flops(std::int64_t first, std::int64_t count) const;
  std::int64_t room(const PreparedPrompt& prompt) const;
  void keep(const RecipeRun& run, const PreparedPrompt& prompt, const std::string& recipe) const;

  const Session& session_;
  MeasureOptions options_;
  Prefiller prefiller_;
  std::string setup_;
};

}  // namespace kv
