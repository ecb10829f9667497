#pragma once
// Documents in, members of kv(5) out: what kvprefill does.

#include "kv/container/reader.hh"
#include "kv/container/writer.hh"
#include "kv/documents/documents.hh"
#include "kv/session/cache_load.hh"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace kv {

struct PrefillOptions {
  std::int64_t split = 0;                    // tokens a chunk, each prefilled alone; 0: no chunks
  std::optional<bool> bos;                   // BOS first; unset: as the tokenizer does it
  bool parse_special = false;                // "<|im_start|>" in a text is that token
  std::optional<DType> dtype;                // of the file; unset: the compute dtype
  std::vector<std::uint32_t> hidden_layers;  // E to be kept, ascending
  bool only_new = false;                     // behind a prefix: leave the prefix out
  bool importance = false;                   // measure it and keep it
  std::vector<HistoryEntry> history;
};

class Prefiller {
 public:
  // The session outlives the prefiller. Throws kUsage when an option does not fit the model: a
  // layer that it has not, int8, a BOS that the tokenizer has not, chunks behind a prefix.
  Prefiller(const Session& session, PrefillOptions options);

  // Every document then stands behind this cache, which must keep un-rotated keys and E at the
  // options' layers, and have room for the model's context. Throws kUsage when documents are to be
  // split.
  void set_prefix(CacheFile prefix);

  // Ids as they will be prefilled, without the prefix, one list a member. Throws kInput, naming
  // the document's place: empty, an id outside the vocabulary, longer than the model's context.
  std::vector<std::vector<std::int32_t>> chunks(const Document& document) const;

  // One member a chunk. `on_tokens` is told tokens as they are done.
  void write(const Document& document, Writer& writer,
             const std::function<void(std::int64_t)>& on_tokens);

  // Whether the file at `path` is what write() would make of the document: whole, the same model,
  // ids, dtype, layers and importance. False when it is damaged; throws kInput when it is sound but
  // of something else.
  bool already_done(const std::string& path, const Document& document) const;

 private:
  Meta meta_of(const Document& document, std::size_t chunk, std::size_t chunks,
               std::int64_t token_count) const;
  void write_member(const Meta& meta, std::span<const std::int32_t> tokens, Writer& writer,
                    const std::function<void(std::int64_t)>& on_tokens);
  void write_tensors(const Meta& meta, const KvCache& cache, const ForwardResult& result,
                     std::int64_t first_slot, Writer& writer) const;
  std::int64_t prefix_tokens() const { return prefix_ ? prefix_->meta.token_count : 0; }
  bool puts_bos() const;

  const Session& session_;
  PrefillOptions options_;
  DType dtype_;
  std::optional<CacheFile> prefix_;
};

// IMPT of the slots from `first_slot` on; empty where the weights were not asked for.
Importance importance_of(const ForwardResult& result, const Meta& meta, std::int64_t first_slot);

struct BatchOptions {
  std::string out_dir;
  Shard shard;
  bool force = false;
};
struct BatchCounts {
  std::uint64_t written = 0, skipped = 0;
};

// One file a document in out_dir, which is made when it is not there; what is there already is
// verified and skipped. `next` gives documents until it has none. Throws kInput when two documents
// have the same id.
BatchCounts run_batch(Prefiller& prefiller, const std::function<std::optional<Document>()>& next,
                      const BatchOptions& options,
                      const std::function<void(std::int64_t)>& on_tokens);

}  // namespace kv
