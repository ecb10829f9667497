#include "kv/eval/answers.hh"

#include <algorithm>
#include <map>

namespace kv {
namespace {

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  const auto end = [&] {
    if (!word.empty() && word != "a" && word != "an" && word != "the") words.push_back(word);
    word.clear();
  };
  for (const char c : text) {
    if (c == ' ' || (c >= '\t' && c <= '\r')) {
      end();
    } else if (c >= 'A' && c <= 'Z') {
      word += static_cast<char>(c - 'A' + 'a');
    } else if (c < 0 || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
      word += c;
    }
  }
  end();
  return words;
}

}  // namespace

std::string normalised_answer(std::string_view text) {
  std::string joined;
  for (const std::string& word : words_of(text)) {
    if (!joined.empty()) joined += ' ';
    joined += word;
  }
  return joined;
}

double answer_f1(std::string_view said, std::string_view wanted) {
  const std::vector<std::string> mine = words_of(said), theirs = words_of(wanted);
  if (mine.empty() || theirs.empty()) return mine.empty() && theirs.empty() ? 1 : 0;
  std::map<std::string, int> left;
  for (const std::string& word : theirs) ++left[word];
  double common = 0;
  for (const std::string& word : mine) {
    if (--left[word] >= 0) ++common;
  }
  return 2 * common / static_cast<double>(mine.size() + theirs.size());
}

AnswerScore score_answer(std::string_view said, const std::vector<std::string>& wanted) {
  AnswerScore best;
  for (const std::string& answer : wanted) {
    best.f1 = std::max(best.f1, answer_f1(said, answer));
    best.exact = best.exact || normalised_answer(said) == normalised_answer(answer);
  }
  return best;
}

std::string first_line(std::string_view said) {
  const std::size_t begin = said.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return "";
  const std::string_view line = said.substr(begin, said.find_first_of("\r\n", begin) - begin);
  return std::string(line.substr(0, line.find_last_not_of(" \t") + 1));
}

}  // namespace kv
