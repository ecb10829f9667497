#pragma once
// What a model is to learn, as token ids.

#include "kv/documents/prompts.hh"
#include "kv/tokenizer/tokenizer.hh"

#include <cstdint>
#include <string>
#include <vector>

namespace kv {

// ids[0, prompt) are given; each of ids[prompt, end) is to be said behind those before it.
struct TrainingText {
  std::vector<std::int32_t> ids;
  std::int64_t prompt = 0;
  std::int64_t targets() const { return static_cast<std::int64_t>(ids.size()) - prompt; }
};

struct TrainingOptions {
  bool chat = false;             // wrap prompts in the model's chat template, as kvgen --chat does
  std::int64_t most_tokens = 0;  // of a text; 0: no limit
  std::int64_t vocab = 0;        // of the model
  std::int32_t eos = 0;          // said behind every completion
};

// A text a completion; of messages, one for each of the assistant's, behind all before it. Throws
// kInput, naming the line, where one is longer than `most_tokens` or has an id outside the
// vocabulary, and as chat_prompt() does.
std::vector<TrainingText> training_texts(const std::vector<Prompt>& prompts,
                                         const Tokenizer& tokenizer,
                                         const TrainingOptions& options);

// The parts' ids one after another, the first as the beginning of a context.
std::vector<std::vector<std::int32_t>> part_ids(const Prompt& prompt, const Tokenizer& tokenizer,
                                                bool chat);

// Which texts each step takes: all of them in an order drawn anew each time round. The same for the
// same seed, on every machine, whatever came before.
class BatchOrder {
 public:
  BatchOrder(std::size_t texts, std::size_t batch, std::uint64_t seed);
  std::vector<std::size_t> batch(std::int64_t step);

 private:
  void draw(std::uint64_t round);

  std::size_t texts_, batch_;
  std::uint64_t seed_, round_;
  std::vector<std::size_t> order_;
};

}  // namespace kv
