#pragma once
// Prompts with what should be said to them, from JSON Lines: what fine-tuning learns from and what
// answers are judged by.

#include "kv/base/file.hh"

#include <string>
#include <vector>

namespace kv {

struct PromptMessage {
  std::string role, content;
};

// Either parts and a completion, or messages.
struct Prompt {
  // One after another, each tokenised by itself, as a text that is prefilled to a cache and a
  // question behind it are.
  std::vector<std::string> parts;
  std::string completion;
  std::vector<PromptMessage> messages;
  std::string group;  // the object's "group", where prompts belong together; else empty
  std::string place;  // "train.jsonl: line 12"
};

// One object a line: {"prompt": "..." or ["...", "..."], "completion": "..."} or {"messages":
// [{"role": "...", "content": "..."}, ...]}; other fields are left alone. Empty lines are skipped.
// Throws kInput with file and line: anything else, an empty completion, messages of which none is
// the assistant's, no line at all.
std::vector<Prompt> read_prompts(Input input);

}  // namespace kv
