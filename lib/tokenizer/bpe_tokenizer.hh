#pragma once
// The one tokenizer class; files of each kind are read into its parts. Private to the folder.

#include "added_tokens.hh"
#include "bpe.hh"
#include "pretokenize.hh"

#include <array>
#include <string>
#include <unordered_map>
#include <vector>

namespace kv {

// SentencePiece puts a space before a text: the old way before every stretch between added tokens,
// the new way only where the text begins. Metaspace leaves it out where a space is already, and
// is no normalizer: it comes after the added tokens that are looked for in normalised text.
struct SpacePrefix {
  enum class Where { kNever, kFirst, kAlways } where = Where::kNever;
  bool metaspace = false;
};

struct TokenizerParts {
  std::string place;      // for messages
  Vocabulary vocabulary;  // raw bytes
  MergeTable merges;
  std::vector<SplitRegex> splits;  // applied one after another
  std::vector<AddedToken> added;
  bool nfc = false;
  bool ignore_merges = false;        // a piece that is in the vocabulary is taken whole
  bool byte_fallback = false;        // SentencePiece: characters, then bytes as <0xXX>
  bool spaces_as_underline = false;  // SentencePiece: ' ' is U+2581
  SpacePrefix space_prefix;
  TokenId unknown = -1;
  std::optional<TokenId> bos, eos;
  bool adds_bos = false;
  ChatTemplate chat;

  // Merges the first `left` bytes of `whole` with the others. Of pieces that are not there:
  // nothing, for such a merge can never happen.
  void add_merge(std::string_view whole, std::size_t left, std::uint32_t rank);
};

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(TokenizerParts parts);
  BpeTokenizer(const BpeTokenizer&) = delete;  // the searches point into the parts
  BpeTokenizer& operator=(const BpeTokenizer&) = delete;

  std::vector<TokenId> encode(std::string_view text, bool parse_special) const override;
  std::string decode(std::span<const TokenId> ids, bool skip_special) const override;
  std::size_t size() const override { return parts_.vocabulary.size(); }
  std::optional<TokenId> bos() const override { return parts_.bos; }
  std::optional<TokenId> eos() const override { return parts_.eos; }
  bool adds_bos() const override { return parts_.adds_bos; }
  std::optional<TokenId> find(std::string_view piece) const override;
  std::string fingerprint() const override;
  ChatTemplate chat_template() const override { return parts_.chat; }

 private:
  void encode_plain(std::string_view text, bool first, bool parse_special,
                    std::vector<TokenId>& out) const;
  void encode_words(std::string_view text, bool first, std::vector<TokenId>& out) const;
  std::string normalised(std::string_view text, bool first) const;
  void show_spaces(std::string& text, bool first) const;
  bool wants_prefix(std::string_view text, bool first) const;
  void encode_piece(std::string_view piece, std::vector<TokenId>& out) const;
  void symbols_of(std::string_view piece, std::vector<TokenId>& symbols) const;

  TokenizerParts parts_;
  std::array<TokenId, 256> byte_ids_{};  // of single bytes
  std::vector<TokenId> added_of_;        // index into parts_.added by id, -1: none
  AddedTokenSearch raw_added_;           // those looked for in the text as it is
  AddedTokenSearch normalised_added_;
  // Words come again; bounded, and cleared when full.
  mutable std::unordered_map<std::string, std::vector<TokenId>> cache_;
};

// Reads one kind of file each. `place` names it in messages; all throw kInput.
TokenizerParts parts_from_gguf(const std::string& path);
TokenizerParts parts_from_json(std::string_view json, const std::string& place);

// A piece spelled in GPT-2's printable stand-ins for bytes to these bytes; characters that are none
// of them stay as they are.
std::string raw_piece(std::string_view piece);
void append_raw(std::string_view piece, std::string& out);

}  // namespace kv
