#pragma once
// Offline profiling of a pair of models (DroidSpeak, section 4): how much each layer matters, which
// contiguous groups are worth recomputing, and what that costs.

#include "kv/documents/prompts.hh"
#include "kv/session/session.hh"
#include "kv/share/share_plan.hh"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace kv {

struct ProfileOptions {
  std::int64_t answer_tokens = 32;  // at most, of each of B's answers
  std::int64_t step = 0;            // of the coarse grid, layers; 0: a sixth of them
  bool chat = false;                // wrap prompts in B's chat template
  std::uint64_t seed = 1;           // of the intervals
  std::string budget;               // as choose_point() has it; empty: default_point()
  // What was measured is kept here, and not measured again when it is there; empty: nowhere.
  std::string state;
  std::function<void(const std::string&, double)> on_progress = {};  // what, and share done
};

// Prompts with a text and a question: the cache is of the first part, and the question is what
// follows; of a prompt in one part the question is its last token. Half of them choose groups, the
// other half tells what those are worth; completions are judged where there are any. Throws kInput
// when the models differ in their geometry or tokenizer, kUsage with fewer than two prompts.
SharePlan profile_pair(const Session& from, const Session& to, const std::vector<Prompt>& prompts,
                       const ProfileOptions& options);

// For people: a table, and a picture of the frontier by both halves.
std::string profile_text(const SharePlan& plan);
std::string profile_plot(const SharePlan& plan);

}  // namespace kv
