#pragma once
// Prompts to judge recipes by: what stands in a cache, a question behind it, answers that are
// right.

#include "kv/documents/documents.hh"

#include <string>
#include <vector>

namespace kv {

struct EvalPrompt {
  std::string id;
  std::vector<std::string> chunks;  // one or more; none is empty
  std::string question;
  std::vector<std::string> answers;  // none: nothing to hit
  std::string place;                 // "prompts.jsonl: line 12"
};

// One object a line: {"id", "chunks": ["...", ...] or "context": "...", "question", "answers":
// ["...", ...]}. "id" may be a string or a whole number; without one it is the line's number.
// Without "answers" there are none. Other fields are left alone. Throws kInput with file and line:
// no object, both or neither of chunks and context, an empty chunk, no question, fields of another
// type, two prompts with the same id; and when there is no prompt.
std::vector<EvalPrompt> read_eval_prompts(Input input);

}  // namespace kv
