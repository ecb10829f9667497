#include "added_tokens.hh"

#include "utf8.hh"

#include <utf8proc.h>

#include <algorithm>

namespace kv {
namespace {

// White_Space of Unicode.
bool is_space(char32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return (c >= '\t' && c <= '\r') || c == 0x85 || category == UTF8PROC_CATEGORY_ZS ||
         category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

// \w of Unicode (UTS 18): letters, marks, decimal digits, letter numbers, connectors, joiners, and
// the circled and squared letters.
bool is_word(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
             (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
             (c >= 0x1F170 && c <= 0x1F189);
  }
}

// Where the character before `at`, which is not 0, begins.
std::size_t before(std::string_view text, std::size_t at) {
  --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

char32_t character_at(std::string_view text, std::size_t at) { return next_character(text, at); }

bool touches_word(std::string_view text, std::size_t begin, std::size_t end) {
  return (begin > 0 && is_word(character_at(text, before(text, begin)))) ||
         (end < text.size() && is_word(character_at(text, end)));
}

}  // namespace

void AddedTokenSearch::add(std::string text, const AddedToken& token) {
  if (text.empty()) return;
  std::vector<std::size_t>& list = by_byte_[static_cast<unsigned char>(text.front())];
  const auto shorter = std::ranges::find_if(
      list, [&](std::size_t i) { return patterns_[i].text.size() < text.size(); });
  list.insert(shorter, patterns_.size());
  patterns_.push_back({std::move(text), &token});
}

const AddedTokenSearch::Pattern* AddedTokenSearch::longest_at(std::string_view text,
                                                              std::size_t at) const {
  for (const std::size_t i : by_byte_[static_cast<unsigned char>(text[at])]) {
    if (text.substr(at).starts_with(patterns_[i].text)) return &patterns_[i];
  }
  return nullptr;
}

std::vector<Stretch> AddedTokenSearch::split(std::string_view text, bool parse_special) const {
  std::vector<Stretch> stretches;
  std::size_t done = 0;
  for (std::size_t at = patterns_.empty() ? text.size() : 0; at < text.size();) {
    const Pattern* found = longest_at(text, at);
    if (!found) {
      ++at;
      continue;
    }
    const AddedToken& token = *found->token;
    std::size_t begin = at, end = at + found->text.size();
    at = end;
    if ((token.special && !parse_special) ||
        (token.single_word && touches_word(text, begin, end))) {
      continue;
    }
    while (token.lstrip && begin > done && is_space(character_at(text, before(text, begin)))) {
      begin = before(text, begin);
    }
    // A token of spaces may be what the one before took already.
    if (token.lstrip) begin = std::max(begin, done);
    while (token.rstrip && end < text.size() && is_space(character_at(text, end))) {
      next_character(text, end);
    }
    if (begin > done) stretches.push_back({nullptr, text.substr(done, begin - done)});
    if (begin < end) stretches.push_back({&token, text.substr(begin, end - begin)});
    done = end;
  }
  if (done < text.size()) stretches.push_back({nullptr, text.substr(done)});
  return stretches;
}

}  // namespace kv
