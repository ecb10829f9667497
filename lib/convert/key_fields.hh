#pragma once
// Why the cache of one prompt is not found for another: what differs beside the tokens.

#include "kv/container/meta.hh"
#include "kv/convert/engine_keys.hh"

#include <optional>

namespace kv {

// A prompt, and what is known of its cache.
struct KeyedPrompt {
  std::string name;  // in messages
  std::vector<std::int32_t> ids;
  std::optional<Meta> meta;
  std::int64_t block = 0;  // 0: the engine's own
  std::string seed;        // empty: the engine's own
};

// A thing that two caches do not agree in.
struct KeyDifference {
  std::string_view field;  // "model", "tokenizer", "layout", "dtype", "position", "block", "seed"
  std::string a, b;        // as users read them
};
// In this order; none where nothing beside the tokens differs. Of metadata only where both have it.
std::vector<KeyDifference> key_differences(const KeyedPrompt& a, const KeyedPrompt& b);

// What an engine finds of `a` when asked for `b`.
struct KeyHits {
  std::int64_t block = 0;                    // of a
  std::size_t keys = 0, of = 0;              // the same ones from the first on, of those of `a`
  std::int64_t tokens = 0;                   // in them
  std::vector<std::string_view> kept_apart;  // differences that its names show: nothing is found
  std::vector<std::string_view> unnoticed;   // those that they do not: the wrong cache is taken
};
KeyHits key_hits(const KeyFamily& family, const KeyedPrompt& a, const KeyedPrompt& b,
                 const std::vector<KeyDifference>& differences);

// The parts of a file's name in a store of vLLM, LMCache or HiCache, which may stand behind
// folders: "engine" first, then "model", "device", "hash" and what else there is. Throws kInput.
struct NamePart {
  std::string field, value;
  bool operator==(const NamePart&) const = default;
};
std::vector<NamePart> store_name_parts(std::string_view path);

}  // namespace kv
