#pragma once
// The keys under which engines look for the cache of a prompt: hashes of its token ids, a whole
// block after another.

#include "kv/convert/digest.hh"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kv {

using TokenIds = std::span<const std::int32_t>;

// One engine's way of hashing.
struct KeyFamily {
  std::string_view name;
  std::int64_t block = 0;  // tokens of a block, as the engine has it by default
  std::string_view seed;   // of which a hash stands before the first block, where users choose none
  bool whole_only = false;   // one key for all blocks together, instead of one a block
  bool names_model = false;  // beside the keys, in the names of files
  bool names_dtype = false;
  std::int64_t most = 1 << 20;  // tokens of a block

  bool seeded() const { return !seed.empty(); }
};
std::span<const KeyFamily> key_families();
// Throws kUsage, naming those there are.
const KeyFamily& key_family_by_name(std::string_view name);

// A key and the tokens, from the prompt's first, that a cache under it must have been made of.
struct EngineKey {
  std::int64_t tokens = 0;
  std::string key;

  bool operator==(const EngineKey&) const = default;
};

// Of each whole block in order, or of all together; empty where there is no whole block. `block` is
// over 0; `seed` is what PYTHONHASHSEED says, empty where it says nothing. Throws kUsage for blocks
// over the family's most.
std::vector<EngineKey> engine_keys(const KeyFamily& family, TokenIds ids, std::int64_t block,
                                   std::string_view seed);

// vLLM's ExampleConnector: the folder of these tokens (whole blocks).
std::string vllm_folder(TokenIds ids);

}  // namespace kv
