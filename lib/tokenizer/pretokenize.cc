#include "pretokenize.hh"

#define PCRE2_CODE_UNIT_WIDTH 8
#include "kv/base/error.hh"

#include <pcre2.h>

namespace kv {
namespace {

constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// \s and \S as White_Space, inside and outside of brackets.
std::string white_space_spelled_out(std::string_view pattern) {
  constexpr std::string_view kSpace = R"(\p{Z}\t-\r\x{85})";
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      if (next == 's') {
        out += in_class ? std::string(kSpace) : fmt::format("[{}]", kSpace);
      } else if (next == 'S' && !in_class) {
        out += fmt::format("[^{}]", kSpace);
      } else {
        out += c;
        out += next;
      }
      continue;
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

// A hostile pattern may not run for ever.
constexpr std::uint32_t kMatchLimit = 1u << 22;

}  // namespace

struct SplitRegex::Code {
  pcre2_code* code = nullptr;
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  std::string pattern, place;
  Match match = Match::kIsolated;

  ~Code() {
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
    pcre2_code_free(code);
  }
};

SplitRegex::SplitRegex(std::string_view pattern, const std::string& place, Match match)
    : code_(std::make_unique<Code>()) {
  const std::string translated = white_space_spelled_out(pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_->pattern = pattern;
  code_->place = place;
  code_->match = match;
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  if (!code_->code) fail_input("{}: pattern does not compile at byte {}", place, offset);
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);  // where there is no JIT, it matches slowly
  code_->data = pcre2_match_data_create(1, nullptr);
  code_->context = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(code_->context, kMatchLimit);
}

SplitRegex::~SplitRegex() = default;
SplitRegex::SplitRegex(SplitRegex&&) noexcept = default;

const std::string& SplitRegex::pattern() const { return code_->pattern; }
SplitRegex::Match SplitRegex::match() const { return code_->match; }

void SplitRegex::split(std::string_view piece, std::vector<std::string_view>& out) const {
  std::size_t at = 0, from = 0;  // `from`: where the next match is looked for
  while (from < piece.size()) {
    const int found =
        pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(piece.data()), piece.size(), from,
                    PCRE2_NO_UTF_CHECK, code_->data, code_->context);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) fail_input("{}: matching the text takes too long or too much", code_->place);
    const PCRE2_SIZE* where = pcre2_get_ovector_pointer(code_->data);
    const std::size_t begin = where[0], end = where[1];
    if (end <= begin) {  // an empty match: one character on
      ++from;
      while (from < piece.size() && (static_cast<unsigned char>(piece[from]) & 0xC0) == 0x80)
        ++from;
      continue;
    }
    const bool merged = begin > at && code_->match == Match::kMergedWithPrevious;
    if (begin > at && !merged) out.push_back(piece.substr(at, begin - at));
    const std::size_t from_here = merged ? at : begin;
    out.push_back(piece.substr(from_here, end - from_here));
    at = from = end;
  }
  if (at < piece.size()) out.push_back(piece.substr(at));
}

std::vector<std::string_view> known_patterns(std::string_view name) {
  if (name == "smollm") return {kDigitPattern, kGpt2Pattern};
  if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") return {kLlama3Pattern};
  if (name == "qwen2") return {kQwen2Pattern};
  if (name == "gpt-2" || name == "default") return {kGpt2Pattern};
  return {};
}

}  // namespace kv
