// Reads texts, each a u32 size and its bytes, from stdin; writes for each a u32 count and the ids.
//   tokenize TOKENIZER [special]
#include "kv/base/error.hh"
#include "kv/tokenizer/tokenizer.hh"

#include <cstdio>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  try {
    const auto tokenizer = kv::Tokenizer::open(argv[1]);
    std::uint32_t size = 0;
    while (std::fread(&size, sizeof(size), 1, stdin) == 1) {
      std::string text(size, '\0');
      if (std::fread(text.data(), 1, size, stdin) != size) return 3;
      const std::vector<kv::TokenId> ids = tokenizer->encode(text, argc > 2);
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
