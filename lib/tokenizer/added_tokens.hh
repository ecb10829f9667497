#pragma once
// Added tokens in a text, found as Hugging Face's tokenizers finds them: from the left, the longest
// that begins at a place. Private to the folder.

#include "kv/tokenizer/tokenizer.hh"

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace kv {

struct AddedToken {
  std::string text;
  TokenId id = 0;
  bool special = false;  // control: not part of a text unless asked for
  // Takes the white space on its left or right with it; only where no letters or digits touch it.
  bool lstrip = false, rstrip = false, single_word = false;
  bool normalized = false;  // looked for in the text after the normalizer, itself normalised
};

// One stretch of a text: an added token's, or plain with token nullptr.
struct Stretch {
  const AddedToken* token;
  std::string_view text;
};

class AddedTokenSearch {
 public:
  // `text`: what to look for; `token` must outlive the search.
  void add(std::string text, const AddedToken& token);
  bool empty() const { return patterns_.empty(); }

  // The stretches of valid UTF-8, in order, none of them empty. A special token that was not asked
  // for is plain text, as are all tokens that begin within it.
  std::vector<Stretch> split(std::string_view text, bool parse_special) const;

 private:
  struct Pattern {
    std::string text;
    const AddedToken* token;
  };
  const Pattern* longest_at(std::string_view text, std::size_t at) const;

  std::vector<Pattern> patterns_;
  std::array<std::vector<std::size_t>, 256> by_byte_;  // longest first
};

}  // namespace kv
