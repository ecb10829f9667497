#pragma once
// What a run measured: a JSON line for a prompt and a recipe, so that a run that was killed goes
// on.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kv {

struct Result {
  std::string setup;        // fingerprint of model and options: never mix two
  std::string prompt;       // fingerprint of its tokens and answers
  std::string id;           // of the prompt
  std::string recipe;       // empty: the full prefill that the others are held against
  std::int64_t tokens = 0;  // of the prompt, question and all
  // Over what the full prefill says next, a token each.
  std::vector<double> kld;  // nats
  std::int64_t same_top = 0;
  // Of the right answer that the full prefill finds likeliest, in nats a token; without one: none.
  std::optional<double> nll;
  std::optional<double> f1, exact;  // of what is said; without answers: none
  std::string answer;
  std::uint64_t bytes = 0;         // of the smallest stream on the way
  std::uint64_t chunk_bytes = 0;   // of what the recipe is given
  double before_s = 0;             // what can be done before there is a question
  double ttft_s = 0;               // from there to the first token's logits
  std::optional<double> computed;  // tokens x layers / layers; unknown behind a shell
  std::optional<double> flops;     // multiplications and additions, likewise
  bool in_process = false;         // no shell was asked
};

std::string result_line(const Result& result);
// As a file gives it back, where divergences have six digits: so that a run that went on says what
// one says that did not.
Result as_kept(const Result& result);

// The results of a file, in order; of two of the same prompt and recipe the later. A torn line, as
// a kill leaves it, is passed over. Throws kInput when the file is there but not one of these.
std::vector<Result> read_results(const std::string& path);

// Appends results to a file, which several processes may do at the same time.
class ResultLog {
 public:
  // Makes the file when it is not there. Throws kInput as read_results().
  explicit ResultLog(std::string path);
  void add(const Result& result) const;

 private:
  void append(const std::string& text) const;
  std::string path_;
};

}  // namespace kv
