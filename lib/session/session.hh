#pragma once
// A model with all that belongs to it, and caches of it from files.

#include "kv/container/reader.hh"
#include "kv/model/model.hh"
#include "kv/tokenizer/tokenizer.hh"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kv {

struct Session {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Model> model;
  ModelIdentity identity;

  // `name` as in find_model(). Throws what Checkpoint, Tokenizer and Model throw.
  static Session open(const std::string& name, const ModelOptions& options);
};

struct CacheFileOptions {
  std::int64_t extra_tokens = 0;  // room behind what the file holds
  bool keep_unrotated_keys = false;
  std::vector<std::uint32_t> hidden_layers;  // E to be read as well
};

struct CacheFile {
  Meta meta;
  std::vector<std::int32_t> tokens;
  KvCache cache;
  std::map<std::uint32_t, Bytes> hidden;  // E by layer, in meta.dtype
};

// The one member of a kv stream as a cache of the session's model; coded tiles are decoded.
// Nothing when the stream is empty. Throws kInput when the member is of another model, begins
// behind position 0, has keys with RoPE, lacks layers or the E asked for, or is not the only one.
std::optional<CacheFile> read_cache(Input input, const Session& session,
                                    const CacheFileOptions& options);

}  // namespace kv
