#pragma once
// Caches from files, whole or while they are still on their way.

#include "kv/base/file.hh"
#include "kv/container/meta.hh"
#include "kv/session/session.hh"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

namespace kv {

struct CacheFileOptions {
  std::int64_t extra_tokens = 0;  // room behind what the file holds
  bool keep_unrotated_keys = false;
  std::vector<std::uint32_t> hidden_layers;  // E to be read as well
};

// Throws kInput, naming the file, when a member is of another model, lacks layers, or has keys with
// RoPE applied.
void require_usable(const Meta& meta, const std::string& name, const Session& session);

struct CacheFile {
  Meta meta;
  std::vector<std::int32_t> tokens;
  KvCache cache;
  std::map<std::uint32_t, Bytes> hidden;  // E by layer, in meta.dtype
};

// The one member of a kv stream as a cache of the session's model. Layers become ready in the
// file's order while the model is at work on those before (LayerLoad), so that a question behind a
// cache need not wait for the whole of it. All threads of the model but one read, decode and place;
// the one that waits helps.
class CacheLoad {
 public:
  // Reads the member's head. Nothing when the stream is empty. Throws kInput when the member is of
  // another model, begins behind position 0, has keys with RoPE, or lacks layers or the E asked
  // for. `session` outlives this.
  static std::optional<CacheLoad> open(Input input, const Session& session,
                                       const CacheFileOptions& options);
  CacheLoad(CacheLoad&&) noexcept;
  CacheLoad& operator=(CacheLoad&&) noexcept;
  ~CacheLoad();  // of a cache that is not whole yet: stops reading

  // All is there but what wait() speaks of. The cache may be extended and its new slots be used
  // while layers arrive, but not be truncated.
  CacheFile& file();

  // Returns when keys and values of `layer` are in their places; behind the last layer, when the
  // stream has been read to its end. Throws kInput for what is wrong with the stream by then, also
  // when the member is not its only one. Calls come from one thread.
  void wait(std::int64_t layer);
  // Waits for everything. This object is empty afterwards.
  CacheFile finish();
  // From open() to the end of reading; 0 until then.
  double load_s() const;

 private:
  struct State;
  explicit CacheLoad(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// CacheLoad::finish() at once.
std::optional<CacheFile> read_cache(Input input, const Session& session,
                                    const CacheFileOptions& options);

}  // namespace kv
