#include "kv/documents/word_f1.hh"

#include <algorithm>
#include <map>
#include <string>

namespace kv {
namespace {

std::map<std::string, long> words_of(std::string_view text) {
  std::map<std::string, long> words;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) ++words[word];
    word.clear();
  };
  for (const char c : text) {
    const bool upper = c >= 'A' && c <= 'Z', beyond = static_cast<unsigned char>(c) >= 0x80;
    if (upper) {
      word += static_cast<char>(c - 'A' + 'a');
    } else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || beyond) {
      word += c;
    } else {
      end_word();
    }
  }
  end_word();
  return words;
}

}  // namespace

double word_f1(std::string_view answer, std::string_view truth) {
  const std::map<std::string, long> said = words_of(answer), wanted = words_of(truth);
  long shared = 0, said_count = 0, wanted_count = 0;
  for (const auto& [word, count] : said) {
    said_count += count;
    if (const auto found = wanted.find(word); found != wanted.end()) {
      shared += std::min(count, found->second);
    }
  }
  for (const auto& [word, count] : wanted) wanted_count += count;
  if (said_count + wanted_count == 0) return 1;
  return 2.0 * static_cast<double>(shared) / static_cast<double>(said_count + wanted_count);
}

}  // namespace kv
