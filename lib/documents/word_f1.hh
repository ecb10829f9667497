#pragma once
// How much of an answer is right: the F1 score of its words, as reading comprehension is judged
// (SQuAD, Rajpurkar and others, EMNLP 2016), but that no words are left out.

#include <string_view>

namespace kv {

// 0 to 1: harmonic mean of the shares of words that are the truth's and of the truth's that are
// there, each counted as often as it stands. Words are runs of letters, digits and bytes beyond
// ASCII, without regard to case. Two texts without words agree.
double word_f1(std::string_view answer, std::string_view truth);

}  // namespace kv
