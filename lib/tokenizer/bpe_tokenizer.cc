#include "bpe_tokenizer.hh"

#include "kv/base/hash.hh"
#include "utf8.hh"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>

namespace kv {
namespace {

constexpr std::string_view kUnderline = "\xE2\x96\x81";  // U+2581
constexpr std::size_t kCacheWords = 1u << 16;
constexpr std::size_t kCacheWordBytes = 64;

// NFC changes nothing below U+0300, whose lead byte is 0xCC.
bool is_composed(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0xCC; });
}

std::string composed(std::string_view text, const std::string& place) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &result,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (size < 0) fail_input("{}: NFC: {}", place, utf8proc_errmsg(size));
  std::string out(reinterpret_cast<const char*>(result), static_cast<std::size_t>(size));
  std::free(result);  // NOLINT: utf8proc allocates with malloc
  return out;
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  for (std::size_t at = 0;;) {
    const std::size_t found = text.find(from, at);
    out.append(text.substr(at, found - at));
    if (found == std::string_view::npos) return out;
    out.append(to);
    at = found + from.size();
  }
}

// The byte of a SentencePiece fallback piece "<0xAB>", or -1.
int fallback_byte(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return -1;
  const std::string digits(piece.substr(3, 2));
  char* end = nullptr;
  const long value = std::strtol(digits.c_str(), &end, 16);
  return *end == '\0' ? static_cast<int>(value) : -1;
}

}  // namespace

void TokenizerParts::add_merge(std::string_view whole, std::size_t left, std::uint32_t rank) {
  const TokenId a = vocabulary.find(whole.substr(0, left));
  const TokenId b = vocabulary.find(whole.substr(left));
  const TokenId id = vocabulary.find(whole);
  if (a >= 0 && b >= 0 && id >= 0) merges.add(a, b, {rank, id});
}

BpeTokenizer::BpeTokenizer(TokenizerParts parts) : parts_(std::move(parts)) {
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    byte_ids_[static_cast<std::size_t>(byte)] = parts_.vocabulary.find(
        parts_.byte_fallback ? fmt::format("<0x{:02X}>", byte) : std::string(1, c));
  }
  added_of_.assign(parts_.vocabulary.size(), -1);
  for (std::size_t i = 0; i < parts_.added.size(); ++i) {
    const AddedToken& added = parts_.added[i];
    if (added.text.empty() || added.id < 0 || added.id >= static_cast<TokenId>(size())) {
      fail_input("{}: added token '{}' has an id outside the vocabulary", parts_.place, added.text);
    }
    added_of_[static_cast<std::size_t>(added.id)] = static_cast<TokenId>(i);
    if (added.normalized) {
      normalised_added_.add(normalised(added.text, /*first=*/true), added);
    } else {
      raw_added_.add(added.text, added);
    }
  }
}

std::vector<TokenId> BpeTokenizer::encode(std::string_view text, bool parse_special) const {
  const std::string valid = valid_utf8(text);
  std::vector<TokenId> out;
  out.reserve(valid.size() / 3);
  bool first = true;
  for (const Stretch& stretch : raw_added_.split(valid, parse_special)) {
    if (stretch.token) {
      out.push_back(stretch.token->id);
    } else {
      encode_plain(stretch.text, first, parse_special, out);
    }
    first = false;
  }
  return out;
}

void BpeTokenizer::encode_plain(std::string_view text, bool first, bool parse_special,
                                std::vector<TokenId>& out) const {
  const std::string changed = normalised(text, first);
  for (const Stretch& stretch : normalised_added_.split(changed, parse_special)) {
    if (stretch.token) {
      out.push_back(stretch.token->id);
    } else {
      encode_words(stretch.text, first, out);
    }
    first = false;
  }
}

std::string BpeTokenizer::normalised(std::string_view text, bool first) const {
  std::string changed =
      parts_.nfc && !is_composed(text) ? composed(text, parts_.place) : std::string(text);
  if (!parts_.space_prefix.metaspace) show_spaces(changed, first);
  return changed;
}

void BpeTokenizer::show_spaces(std::string& text, bool first) const {
  if (!parts_.spaces_as_underline || text.empty()) return;
  text = replaced(text, " ", kUnderline);
  const SpacePrefix& prefix = parts_.space_prefix;
  const bool wanted = prefix.where == SpacePrefix::Where::kAlways ||
                      (prefix.where == SpacePrefix::Where::kFirst && first);
  if (wanted && !(prefix.metaspace && text.starts_with(kUnderline))) text.insert(0, kUnderline);
}

void BpeTokenizer::encode_words(std::string_view text, bool first,
                                std::vector<TokenId>& out) const {
  std::string spaced;
  if (parts_.space_prefix.metaspace) {
    spaced = text;
    show_spaces(spaced, first);
    text = spaced;
  }
  std::vector<std::string_view> pieces = {text}, cut;
  for (const SplitRegex& split : parts_.splits) {
    cut.clear();
    for (const std::string_view piece : pieces) split.split(piece, cut);
    pieces.swap(cut);
  }
  for (const std::string_view piece : pieces) encode_piece(piece, out);
}

void BpeTokenizer::symbols_of(std::string_view piece, std::vector<TokenId>& symbols) const {
  if (!parts_.byte_fallback) {
    for (const char c : piece) symbols.push_back(byte_ids_[static_cast<unsigned char>(c)]);
    return;
  }
  for (std::size_t at = 0; at < piece.size();) {
    const std::size_t begin = at;
    next_character(piece, at);
    const std::string_view character = piece.substr(begin, at - begin);
    const TokenId id = parts_.vocabulary.find(character);
    if (id >= 0) {
      symbols.push_back(id);
      continue;
    }
    for (const char c : character) {
      const TokenId byte = byte_ids_[static_cast<unsigned char>(c)];
      symbols.push_back(byte >= 0 ? byte : parts_.unknown);
    }
  }
}

void BpeTokenizer::encode_piece(std::string_view piece, std::vector<TokenId>& out) const {
  if (parts_.ignore_merges) {
    const TokenId whole = parts_.vocabulary.find(piece);
    if (whole >= 0) {
      out.push_back(whole);
      return;
    }
  }
  const bool cached = piece.size() <= kCacheWordBytes;
  const std::string key = cached ? std::string(piece) : std::string();
  if (cached) {
    const auto found = cache_.find(key);
    if (found != cache_.end()) {
      out.insert(out.end(), found->second.begin(), found->second.end());
      return;
    }
  }
  std::vector<TokenId> symbols;
  symbols_of(piece, symbols);
  merge_symbols(symbols, parts_.merges);
  std::erase_if(symbols, [](TokenId id) { return id < 0; });  // a byte that the vocabulary lacks
  out.insert(out.end(), symbols.begin(), symbols.end());
  if (!cached) return;
  if (cache_.size() >= kCacheWords) cache_.clear();
  cache_.emplace(key, std::move(symbols));
}

std::string BpeTokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string out;
  for (const TokenId id : ids) {
    if (id < 0 || id >= static_cast<TokenId>(size())) {
      fail_input("{}: token id {} is not below {}", parts_.place, id, size());
    }
    const TokenId added = added_of_[static_cast<std::size_t>(id)];
    if (added >= 0) {
      const AddedToken& token = parts_.added[static_cast<std::size_t>(added)];
      if (!(skip_special && token.special)) out += token.text;
      continue;
    }
    const std::string_view piece = parts_.vocabulary.piece(id);
    const int byte = parts_.byte_fallback ? fallback_byte(piece) : -1;
    if (byte >= 0) {
      out += static_cast<char>(byte);
    } else if (parts_.spaces_as_underline) {
      out += replaced(piece, kUnderline, " ");
    } else {
      out += piece;
    }
  }
  return out;
}

std::optional<TokenId> BpeTokenizer::find(std::string_view piece) const {
  for (const AddedToken& added : parts_.added) {
    if (added.text == piece) return added.id;
  }
  const TokenId id = parts_.vocabulary.find(piece);
  return id >= 0 ? std::optional(id) : std::nullopt;
}

std::string BpeTokenizer::fingerprint() const {
  Fingerprint fingerprint;
  for (std::size_t id = 0; id < size(); ++id) {
    fingerprint.add_text(parts_.vocabulary.piece(static_cast<TokenId>(id)));
  }
  fingerprint.add_text(fmt::format("{:016x}", parts_.merges.hash()));
  for (const AddedToken& added : parts_.added) {
    std::string flags;
    if (added.lstrip) flags += 'l';
    if (added.rstrip) flags += 'r';
    if (added.single_word) flags += 'w';
    if (added.normalized) flags += 'n';
    fingerprint.add_text(fmt::format("{} {} {}{}", added.id, added.text, added.special, flags));
  }
  for (const SplitRegex& split : parts_.splits) {
    const bool merged = split.match() == SplitRegex::Match::kMergedWithPrevious;
    fingerprint.add_text(merged ? split.pattern() + " merged" : split.pattern());
  }
  fingerprint.add_text(fmt::format("{} {} {} {} {} {}", parts_.nfc, parts_.ignore_merges,
                                   parts_.byte_fallback, parts_.spaces_as_underline,
                                   static_cast<int>(parts_.space_prefix.where), parts_.adds_bos));
  return fingerprint.hex();
}

std::string TextStream::push(TokenId id) {
  pending_ += tokenizer_.decode(std::span(&id, 1), /*skip_special=*/true);
  const std::size_t keep = unfinished_bytes(pending_);
  std::string out = valid_utf8(std::string_view(pending_).substr(0, pending_.size() - keep));
  pending_.erase(0, pending_.size() - keep);
  return out;
}

std::string TextStream::finish() { return valid_utf8(std::exchange(pending_, {})); }

}  // namespace kv
