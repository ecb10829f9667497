#pragma once
// Cutting a text into the pieces within which BPE merges. Private to the folder.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kv {

// A compiled pattern of a pre-tokenizer. The syntax is Oniguruma's, as tokenizer.json has it; its
// \s is Unicode's White_Space, so PCRE2's, which also takes U+180E, is spelled out.
class SplitRegex {
 public:
  // What becomes of a match: a piece of its own, or the end of the one before it, unless that is a
  // match too.
  enum class Match { kIsolated, kMergedWithPrevious };

  // Throws kInput, with `place`, when the pattern does not compile.
  SplitRegex(std::string_view pattern, const std::string& place, Match match = Match::kIsolated);
  ~SplitRegex();
  SplitRegex(SplitRegex&&) noexcept;

  const std::string& pattern() const;
  Match match() const;
  // Cuts `piece` (valid UTF-8) into matches and what lies between them.
  void split(std::string_view piece, std::vector<std::string_view>& out) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

// The patterns of known pre-tokenizers, as GGUF's tokenizer.ggml.pre names them: "smollm", "qwen2",
// "llama-bpe", "gpt-2" and "default". Empty for others.
std::vector<std::string_view> known_patterns(std::string_view name);

inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kDigitPattern = R"(\p{N})";

}  // namespace kv
