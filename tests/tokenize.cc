// Reads texts, each a u32 size and its bytes, from stdin; writes for each a u32 count and the ids.
//   tokenize TOKENIZER [special]
//   tokenize TOKENIZER chat    texts are conversations: role, NUL, content, NUL, role ...
#include "kv/base/error.hh"
#include "kv/tokenizer/tokenizer.hh"

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

namespace {

std::string prompt_of(const kv::Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t at = 0, end; at < text.size(); at = end + 1) {
    end = std::min(text.find('\0', at), text.size());
    parts.push_back(text.substr(at, end - at));
  }
  std::vector<kv::ChatMessage> messages;
  for (std::size_t i = 0; i + 1 < parts.size(); i += 2) {
    messages.push_back({parts[i], parts[i + 1]});
  }
  return kv::chat_prompt(tokenizer.chat_template(), messages);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const std::string mode = argc > 2 ? argv[2] : "";
  try {
    const auto tokenizer = kv::Tokenizer::open(argv[1]);
    std::uint32_t size = 0;
    while (std::fread(&size, sizeof(size), 1, stdin) == 1) {
      std::string text(size, '\0');
      if (std::fread(text.data(), 1, size, stdin) != size) return 3;
      if (mode == "chat") text = prompt_of(*tokenizer, text);
      const std::vector<kv::TokenId> ids = tokenizer->encode(text, !mode.empty());
      const auto count = static_cast<std::uint32_t>(ids.size());
      std::fwrite(&count, sizeof(count), 1, stdout);
      std::fwrite(ids.data(), sizeof(ids[0]), ids.size(), stdout);
    }
  } catch (const kv::Error& error) {
    std::fprintf(stderr, "tokenize: %s\n", error.what());
    return static_cast<int>(error.kind());
  }
  return 0;
}
