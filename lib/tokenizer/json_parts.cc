#include "bpe_tokenizer.hh"
#include "kv/base/error.hh"
#include "kv/base/json.hh"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace kv {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 64;
constexpr std::size_t kMaxPieces = 1u << 22;
constexpr std::size_t kMaxHoles = 1u << 16;  // ids that no piece has
constexpr std::string_view kWordPattern = "\xE2\x96\x81[^\xE2\x96\x81]*|[^\xE2\x96\x81]+";

std::string type_of(const json& part) {
  if (!part.is_object()) return "";
  const auto type = part.find("type");
  return type != part.end() && type->is_string() ? type->get<std::string>() : "";
}

bool flag(const json& part, const char* key, bool absent) {
  const auto found = part.find(key);
  return found != part.end() && found->is_boolean() ? found->get<bool>() : absent;
}

std::string text_of(const json& part, const char* key) {
  const auto found = part.find(key);
  return found != part.end() && found->is_string() ? found->get<std::string>() : "";
}

// The steps of a Sequence, or the one step that there is.
std::vector<json> steps_of(const json& part, const char* list) {
  if (part.is_null()) return {};
  if (type_of(part) != "Sequence") return {part};
  const auto found = part.find(list);
  if (found == part.end() || !found->is_array()) return {};
  return {found->begin(), found->end()};
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

class JsonParts {
 public:
  JsonParts(const json& file, const std::string& place) : file_(file), place_(place) {
    parts_.place = place;
  }

  TokenizerParts read() {
    const json& model = member(file_, "model");
    if (!model.is_object() || (type_of(model) != "BPE" && !model.contains("merges"))) {
      bad("model is not BPE");
    }
    parts_.byte_fallback = flag(model, "byte_fallback", false);
    parts_.ignore_merges = flag(model, "ignore_merges", false);
    read_normalizer();
    read_pre_tokenizer();
    if (!byte_level_ && !parts_.byte_fallback) bad("neither byte-level nor with byte fallback");
    read_vocabulary(model);
    read_merges(model);
    read_post_processor();
    const std::string unknown = text_of(model, "unk_token");
    if (!unknown.empty()) parts_.unknown = parts_.vocabulary.find(unknown);
    return std::move(parts_);
  }

 private:
  [[noreturn]] void bad(const std::string& what) const {
    fail_input("{}: {}; byte-level BPE and BPE with byte fallback are supported", place_, what);
  }
  static const json& member(const json& object, const char* key) {
    static const json kNull;
    const auto found = object.find(key);
    return found == object.end() ? kNull : *found;
  }
  std::string piece(const std::string& text) const { return byte_level_ ? raw_piece(text) : text; }

  void read_normalizer() {
    for (const json& step : steps_of(member(file_, "normalizer"), "normalizers")) {
      const std::string type = type_of(step);
      if (type == "NFC") {
        parts_.nfc = true;
      } else if (type == "Prepend") {
        parts_.space_prefix.where = SpacePrefix::Where::kAlways;
      } else if (type == "Replace" && text_of(member(step, "pattern"), "String") == " ") {
        parts_.spaces_as_underline = true;
      } else {
        bad(fmt::format("normalizer '{}'", type));
      }
    }
  }

  void read_pre_tokenizer() {
    for (const json& step : steps_of(member(file_, "pre_tokenizer"), "pretokenizers")) {
      const std::string type = type_of(step);
      if (type == "ByteLevel") {
        byte_level_ = true;
        if (flag(step, "add_prefix_space", false)) bad("add_prefix_space");
        if (flag(step, "use_regex", true)) parts_.splits.emplace_back(kGpt2Pattern, place_);
      } else if (type == "Digits") {
        const bool each = flag(step, "individual_digits", false);
        parts_.splits.emplace_back(each ? kDigitPattern : R"(\p{N}+)", place_);
      } else if (type == "Split") {
        const std::string behavior = text_of(step, "behavior");
        const bool merged = behavior == "MergedWithPrevious";
        if ((behavior != "Isolated" && !merged) || flag(step, "invert", false)) {
          bad("a Split that is neither Isolated nor MergedWithPrevious");
        }
        const json& pattern = member(step, "pattern");
        const std::string literal = text_of(pattern, "String");
        parts_.splits.emplace_back(
            literal.empty() ? text_of(pattern, "Regex") : escaped(literal), place_,
            merged ? SplitRegex::Match::kMergedWithPrevious : SplitRegex::Match::kIsolated);
      } else if (type == "Metaspace") {
        parts_.spaces_as_underline = true;
        const std::string scheme = text_of(step, "prepend_scheme");
        const bool old = scheme.empty() && flag(step, "add_prefix_space", true);
        using Where = SpacePrefix::Where;
        parts_.space_prefix = {old || scheme == "always" ? Where::kAlways
                               : scheme == "first"       ? Where::kFirst
                                                         : Where::kNever,
                               /*metaspace=*/true};
        // Cut before each space.
        if (flag(step, "split", true)) parts_.splits.emplace_back(kWordPattern, place_);
      } else {
        bad(fmt::format("pre-tokenizer '{}'", type));
      }
    }
  }

  void read_vocabulary(const json& model) {
    const json& vocab = member(model, "vocab");
    if (!vocab.is_object() || vocab.size() > kMaxPieces) bad("vocab is not an object");
    std::vector<const std::string*> by_id(vocab.size(), nullptr);
    const json& added = member(file_, "added_tokens");
    if (!added.is_null() && !added.is_array()) bad("added_tokens is not a list");
    const std::size_t limit = std::min(kMaxPieces, vocab.size() + added.size() + kMaxHoles);
    for (const auto& [text, id] : vocab.items()) {
      if (!id.is_number_integer() || id < 0 || id >= limit) bad("an id out of range");
      const auto at = id.get<std::size_t>();
      if (at >= by_id.size()) by_id.resize(at + 1, nullptr);
      by_id[at] = &text;
    }
    for (const json& token : added) {
      if (!token.is_object()) bad("an added token that is no object");
      const json& id = member(token, "id");
      if (!id.is_number_integer() || id < 0 || id >= limit) bad("an added id out of range");
      parts_.added.push_back({.text = text_of(token, "content"),
                              .id = id.get<TokenId>(),
                              .special = flag(token, "special", false),
                              .lstrip = flag(token, "lstrip", false),
                              .rstrip = flag(token, "rstrip", false),
                              .single_word = flag(token, "single_word", false),
                              .normalized = flag(token, "normalized", false)});
      if (parts_.added.back().text.empty()) bad("an added token without content");
      by_id.resize(std::max(by_id.size(), id.get<std::size_t>() + 1), nullptr);
    }
    std::vector<bool> is_added(by_id.size(), false);
    for (const AddedToken& token : parts_.added) {
      is_added[static_cast<std::size_t>(token.id)] = true;
      by_id[static_cast<std::size_t>(token.id)] = &token.text;
    }
    parts_.vocabulary.reserve(by_id.size(), 8 * by_id.size());
    for (std::size_t id = 0; id < by_id.size(); ++id) {
      const std::string text = by_id[id] ? *by_id[id] : std::string();
      parts_.vocabulary.add(is_added[id] ? text : piece(text));
    }
  }

  // "a b", or since tokenizers 0.20 ["a", "b"].
  void read_merges(const json& model) {
    const json& merges = member(model, "merges");
    if (!merges.is_array() || merges.size() > kMaxPieces) bad("merges is not a list");
    parts_.merges.reserve(merges.size());
    std::uint32_t rank = 0;
    for (const json& merge : merges) {
      std::string left, right;
      if (merge.is_string()) {
        const auto& text = merge.get_ref<const std::string&>();
        const std::size_t space = text.find(' ', 1);
        if (space == std::string::npos) bad(fmt::format("merge {}", rank));
        left = text.substr(0, space);
        right = text.substr(space + 1);
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
                 merge[1].is_string()) {
        left = merge[0].get<std::string>();
        right = merge[1].get<std::string>();
      } else {
        bad(fmt::format("merge {}", rank));
      }
      left = piece(left);
      parts_.add_merge(left + piece(right), left.size(), rank++);
    }
  }

  // A template that begins with a special token begins with BOS.
  void read_post_processor() {
    for (const json& step : steps_of(member(file_, "post_processor"), "processors")) {
      if (type_of(step) != "TemplateProcessing") continue;
      const json& single = member(step, "single");
      if (!single.is_array() || single.empty() || !single[0].is_object()) continue;
      const std::string text = text_of(member(single[0], "SpecialToken"), "id");
      if (text.empty()) continue;
      for (const AddedToken& token : parts_.added) {
        if (token.text == text) {
          parts_.bos = token.id;
          parts_.adds_bos = true;
        }
      }
    }
  }

  const json& file_;
  std::string place_;
  TokenizerParts parts_;
  bool byte_level_ = false;
};

}  // namespace

TokenizerParts parts_from_json(std::string_view text, const std::string& place) {
  if (json_too_deep(text, kMaxDepth)) fail_input("{}: nested deeper than {}", place, kMaxDepth);
  const json file = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!file.is_object()) fail_input("{}: not a JSON object", place);
  return JsonParts(file, place).read();
}

}  // namespace kv
