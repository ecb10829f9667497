#include "kv/tokenizer/tokenizer.hh"

#include "bpe_tokenizer.hh"
#include "kv/base/file.hh"
#include "kv/base/json.hh"
#include "sentencepiece_tokenizer.hh"
#include "utf8.hh"

#include <nlohmann/json.hpp>
#include <sys/stat.h>

namespace kv {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxFileBytes = 256u << 20;

bool exists(const std::string& path) {
  struct stat status = {};
  return stat(path.c_str(), &status) == 0;
}

std::string read_text(const std::string& path) {
  return std::string(as_text(Input::open(path).read_all(kMaxFileBytes)));
}

// A special token of tokenizer_config.json: text, or an object with its content.
std::string special_text(const json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") && (*found)["content"].is_string()) {
    return (*found)["content"].get<std::string>();
  }
  return "";
}

// What a folder says beside tokenizer.json: BOS, EOS and the chat template.
void add_folder(const std::string& folder, TokenizerParts& parts) {
  const std::string path = folder + "/tokenizer_config.json";
  const std::string jinja = folder + "/chat_template.jinja";
  if (exists(jinja)) parts.chat = recognise_chat_template(read_text(jinja));
  if (!exists(path)) return;
  const std::string text = read_text(path);
  if (json_too_deep(text, 64)) fail_input("{}: nested too deeply", path);
  const json config = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) fail_input("{}: not a JSON object", path);
  const auto id_of = [&](const char* key) -> std::optional<TokenId> {
    const std::string token = special_text(config, key);
    for (const AddedToken& added : parts.added) {
      if (added.text == token) return added.id;
    }
    return std::nullopt;
  };
  if (const auto bos = id_of("bos_token")) parts.bos = bos;
  if (const auto eos = id_of("eos_token")) parts.eos = eos;
  const std::string chat = special_text(config, "chat_template");
  if (!chat.empty()) parts.chat = recognise_chat_template(chat);
}

}  // namespace

// GPT-2 shows the 188 printable bytes of Latin-1 as themselves and the other 68, in order, as
// U+0100 and on.
void append_raw(std::string_view piece, std::string& out) {
  static const std::array<std::int16_t, 0x144> kBytes = [] {
    std::array<std::int16_t, 0x144> table{};
    table.fill(-1);
    std::int16_t next = 0x100;
    for (std::int16_t byte = 0; byte < 256; ++byte) {
      const bool shown = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
      table[static_cast<std::size_t>(shown ? byte : next++)] = byte;
    }
    return table;
  }();
  for (std::size_t at = 0; at < piece.size();) {
    if (static_cast<unsigned char>(piece[at]) < 0x80) {
      out += piece[at++];
      continue;
    }
    const std::size_t begin = at;
    const char32_t character = next_character(piece, at);
    const int byte = character < kBytes.size() ? kBytes[character] : -1;
    if (byte >= 0) {
      out += static_cast<char>(byte);
    } else {
      out += piece.substr(begin, at - begin);
    }
  }
}

std::string raw_piece(std::string_view piece) {
  std::string out;
  append_raw(piece, out);
  return out;
}

std::unique_ptr<Tokenizer> Tokenizer::from_json(std::string_view json, const std::string& place) {
  return std::make_unique<BpeTokenizer>(parts_from_json(json, place));
}

std::unique_ptr<Tokenizer> Tokenizer::open(const std::string& path) {
  const std::string in_folder = path + "/tokenizer.json";
  if (exists(in_folder)) {
    TokenizerParts parts = parts_from_json(read_text(in_folder), in_folder);
    add_folder(path, parts);
    return std::make_unique<BpeTokenizer>(std::move(parts));
  }
  if (exists(path + "/tokenizer.model")) return open_sentencepiece(path + "/tokenizer.model");
  if (path.ends_with(".json")) return from_json(read_text(path), path);
  if (path.ends_with(".model")) return open_sentencepiece(path);
  if (path.ends_with(".gguf")) return std::make_unique<BpeTokenizer>(parts_from_gguf(path));
  fail_input("{}: no tokenizer (a .gguf, tokenizer.json, tokenizer.model, or a folder with one)",
             path);
}

}  // namespace kv
