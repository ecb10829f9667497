#include "bpe_tokenizer.hh"
#include "kv/gguf/gguf.hh"
#include "utf8.hh"

#include <algorithm>
#include <map>

namespace kv {
namespace {

// llama_token_type of ggml.
enum TokenType : std::int64_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

void add_merges(const GgufFile& file, TokenizerParts& parts) {
  const std::vector<std::string_view> merges = file.texts("tokenizer.ggml.merges");
  parts.merges.reserve(merges.size());
  std::string whole;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string_view merge = merges[rank];
    const std::size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos) {
      fail_input("{}: merge {} is not two pieces", parts.place, rank);
    }
    whole.clear();
    append_raw(merge.substr(0, space), whole);
    const std::size_t left = whole.size();
    append_raw(merge.substr(space + 1), whole);
    parts.add_merge(whole, left, static_cast<std::uint32_t>(rank));
  }
}

constexpr std::string_view kUnderline = "\xE2\x96\x81";

// A run of spaces, shown or not, as Gemma has them: no token to be looked for in the text but the
// first of all pieces to be merged, as a long run is cut otherwise.
bool is_spaces(std::string_view piece, std::int64_t type) {
  std::size_t at = 0;
  for (; at < piece.size(); at += piece[at] == ' ' ? 1 : kUnderline.size()) {
    if (piece[at] != ' ' && !piece.substr(at).starts_with(kUnderline)) return false;
  }
  return type == kUserDefined && !piece.empty();
}
std::string spaces_hidden(std::string_view piece) {
  std::string text;
  for (std::size_t at = 0; at < piece.size(); at += piece[at] == ' ' ? 1 : kUnderline.size()) {
    text += kUnderline;
  }
  return text;
}

std::string spaces_shown(std::string_view piece) {
  std::string text(piece);
  for (std::size_t at = 0; (at = text.find(kUnderline, at)) != std::string::npos; ++at) {
    text.replace(at, kUnderline.size(), " ");
  }
  return text;
}

// SentencePiece merges any two neighbours whose whole is a piece, the best score first; runs of
// spaces that the user defined before all others, in their own order.
void add_scored_merges(const GgufFile& file, const std::vector<std::int64_t>& types,
                       TokenizerParts& parts) {
  const std::vector<float> scores = file.numbers("tokenizer.ggml.scores");
  const std::size_t count = parts.vocabulary.size();
  if (scores.size() != count) {
    fail_input("{}: {} scores for {} pieces", parts.place, scores.size(), count);
  }
  std::vector<float> order(scores);
  std::sort(order.begin(), order.end(), std::greater<>());
  order.erase(std::unique(order.begin(), order.end()), order.end());
  std::uint32_t runs = 0;
  for (std::size_t i = 0; i < count; ++i) {
    runs += is_spaces(parts.vocabulary.piece(static_cast<TokenId>(i)), types[i]);
  }
  std::uint32_t run = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (types[i] != kNormal && types[i] != kUserDefined) continue;
    const std::string_view piece = parts.vocabulary.piece(static_cast<TokenId>(i));
    const auto by_score = static_cast<std::uint32_t>(
        std::lower_bound(order.begin(), order.end(), scores[i], std::greater<>()) - order.begin());
    const std::uint32_t rank = is_spaces(piece, types[i]) ? run++ : runs + by_score;
    std::size_t at = 0;
    for (next_character(piece, at); at < piece.size(); next_character(piece, at)) {
      const TokenId left = parts.vocabulary.find(piece.substr(0, at));
      const TokenId right = parts.vocabulary.find(piece.substr(at));
      if (left >= 0 && right >= 0) parts.merges.add(left, right, {rank, static_cast<TokenId>(i)});
    }
  }
}

std::optional<TokenId> id_of(const GgufFile& file, std::string_view key, std::size_t size) {
  const std::optional<std::int64_t> id = file.integer(key);
  if (!id) return std::nullopt;
  if (*id < 0 || *id >= static_cast<std::int64_t>(size)) {
    fail_input("{}: {} = {} is outside the vocabulary", file.name(), key, *id);
  }
  return static_cast<TokenId>(*id);
}

}  // namespace

TokenizerParts parts_from_gguf(const std::string& path) {
  const GgufFile file(path);
  TokenizerParts parts;
  parts.place = path;
  const std::string_view model = file.text("tokenizer.ggml.model").value_or("");
  if (model != "gpt2" && model != "llama") {
    fail_input("{}: tokenizer kind '{}' is not supported (gpt2 and llama are)", path, model);
  }
  const bool scored = model == "llama";
  const std::vector<std::string_view> tokens = file.texts("tokenizer.ggml.tokens");
  std::vector<std::int64_t> types = file.integers("tokenizer.ggml.token_type");
  if (types.empty()) types.assign(tokens.size(), kNormal);
  if (types.size() != tokens.size() || tokens.empty()) {
    fail_input("{}: {} token types for {} tokens", path, types.size(), tokens.size());
  }
  std::size_t characters = 0;
  for (const std::string_view token : tokens) characters += token.size();
  parts.vocabulary.reserve(tokens.size(), characters);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (scored && is_spaces(tokens[i], types[i])) {
      parts.vocabulary.add(spaces_hidden(tokens[i]));
      continue;
    }
    const bool added = types[i] == kControl || types[i] == kUserDefined;
    if (added && !tokens[i].empty()) {
      parts.added.push_back({.text = scored ? spaces_shown(tokens[i]) : std::string(tokens[i]),
                             .id = static_cast<TokenId>(i),
                             .special = types[i] == kControl});
    }
    parts.vocabulary.add(scored || added ? std::string(tokens[i]) : raw_piece(tokens[i]));
  }
  if (scored) {
    parts.byte_fallback = parts.spaces_as_underline = true;
    if (file.boolean("tokenizer.ggml.add_space_prefix").value_or(true)) {
      parts.space_prefix.where = SpacePrefix::Where::kAlways;
    }
    add_scored_merges(file, types, parts);
    parts.unknown = id_of(file, "tokenizer.ggml.unknown_token_id", tokens.size()).value_or(-1);
  } else {
    const std::string_view pre = file.text("tokenizer.ggml.pre").value_or("default");
    const std::vector<std::string_view> patterns = known_patterns(pre);
    if (patterns.empty()) fail_input("{}: pre-tokenizer '{}' is not known", path, pre);
    for (const std::string_view pattern : patterns) parts.splits.emplace_back(pattern, path);
    parts.ignore_merges = pre == "llama-bpe";
    parts.nfc = pre == "qwen2";
    add_merges(file, parts);
  }
  parts.bos = id_of(file, "tokenizer.ggml.bos_token_id", tokens.size());
  parts.eos = id_of(file, "tokenizer.ggml.eos_token_id", tokens.size());
  parts.adds_bos =
      parts.bos &&
      file.boolean("tokenizer.ggml.add_bos_token").value_or(scored || parts.ignore_merges);
  parts.chat = recognise_chat_template(file.text("tokenizer.chat_template").value_or(""));
  // Files of Gemma may lack the template; its turns are told by the vocabulary.
  if (parts.chat.name.empty() && parts.vocabulary.find("<start_of_turn>") >= 0) {
    parts.chat = recognise_chat_template("<start_of_turn>");
  }
  return parts;
}

}  // namespace kv
