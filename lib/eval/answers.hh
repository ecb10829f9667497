#pragma once
// How well an answer hits, as SQuAD has it (Rajpurkar and others, 2016, section 6.1).

#include <string>
#include <string_view>
#include <vector>

namespace kv {

// Lower case, without punctuation (of ASCII), without the words a, an and the; words with one space
// between them.
std::string normalised_answer(std::string_view text);
// Harmonic mean of precision and recall of words; 1 where both have none.
double answer_f1(std::string_view said, std::string_view wanted);

struct AnswerScore {
  double f1 = 0;
  bool exact = false;
};
// The best over `wanted`; nothing of none.
AnswerScore score_answer(std::string_view said, const std::vector<std::string>& wanted);

// What a model says up to the end of the line that it begins.
std::string first_line(std::string_view said);

}  // namespace kv
