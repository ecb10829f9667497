#include "kv/session/session.hh"

#include "kv/checkpoint/card.hh"
#include "kv/codec/codec.hh"
#include "kv/codec/decoded_source.hh"
#include "kv/model/parallel.hh"

#include <algorithm>
#include <mutex>

namespace kv {
namespace {

void require_usable(const Meta& meta, const std::string& name, const Session& session) {
  require_same_model(meta, name, session.identity);
  if (meta.layers != layers_of(session.checkpoint->config())) {
    fail_input("{}: holds {} of the model's {} layers; join the parts with kvcat --join", name,
               meta.layers.size(), session.checkpoint->config().layers.size());
  }
  if (meta.rope_applied) fail_input("{}: keys have RoPE applied; import it again without", name);
  if (meta.first_position != 0) {
    fail_input("{}: begins at position {}; join it with what stands before (kvcat --join)", name,
               meta.first_position);
  }
}

// Tiles to their places in a cache by all threads: one at a time reads, while the others decode and
// place what they have read.
class TileLoader {
 public:
  TileLoader(DecodedSource& source, CacheFile& file, std::string name,
             const std::vector<std::uint32_t>& hidden_layers)
      : source_(source), file_(file), name_(std::move(name)), hidden_layers_(hidden_layers) {}

  void run(int threads) {
    parallel_items(threads, [this](std::int64_t) {
      Bytes coded, scratch;
      while (const std::optional<Tile> tile = next(coded)) place(*tile, scratch);
    });
  }

 private:
  // A tile of K or V; its bytes are kept in `coded`.
  std::optional<Tile> next(Bytes& coded) {
    const std::lock_guard lock(reading_);
    if (ended_) return std::nullopt;
    ended_ = true;  // stays so where reading throws: what follows damage would be misread
    while (std::optional<Tile> tile = source_.next_tile()) {
      if (tile->header.kind == format::Kind::kE) {
        keep_hidden(*tile);
        continue;
      }
      coded.assign(tile->data.begin(), tile->data.end());
      tile->data = coded;
      ended_ = false;
      return tile;
    }
    return std::nullopt;
  }

  void place(const Tile& tile, Bytes& scratch) {
    const bool keys = tile.header.kind == format::Kind::kK;
    file_.cache.load(static_cast<std::int64_t>(tile.header.layer),
                     keys ? CachePart::kKeys : CachePart::kValues,
                     static_cast<std::int64_t>(tile.header.token_begin),
                     decoded_tile(file_.meta, tile, name_, scratch));
  }

  void keep_hidden(const Tile& tile) {
    const std::uint32_t layer = tile.header.layer;
    if (std::ranges::find(hidden_layers_, layer) == hidden_layers_.end()) return;
    Bytes scratch;
    const TensorView rows = decoded_tile(file_.meta, tile, name_, scratch);
    Bytes& hidden = file_.hidden[layer];
    hidden.insert(hidden.end(), rows.bytes.begin(), rows.bytes.end());
  }

  DecodedSource& source_;
  CacheFile& file_;
  std::string name_;
  const std::vector<std::uint32_t>& hidden_layers_;
  std::mutex reading_;
  bool ended_ = false;  // under the lock
};

}  // namespace

Session Session::open(const std::string& name, const ModelOptions& options) {
  Session session;
  session.checkpoint = Checkpoint::open(name);
  session.tokenizer = Tokenizer::open(session.checkpoint->tokenizer_path());
  session.identity = identity_of(*session.checkpoint, session.tokenizer->fingerprint());
  session.model = Model::load(*session.checkpoint, options);
  return session;
}

std::optional<CacheFile> read_cache(Input input, const Session& session,
                                    const CacheFileOptions& options) {
  TileSource source(std::move(input), true);
  DecodedSource decoded(source, {}, {}, session.model->threads());
  std::optional<Meta> meta = decoded.next_member();
  if (!meta) return std::nullopt;
  const std::string name = source.name();
  require_usable(*meta, name, session);
  for (const std::uint32_t layer : options.hidden_layers) {
    if (!std::binary_search(meta->hidden_layers.begin(), meta->hidden_layers.end(), layer)) {
      fail_input("{}: keeps no E at layer {}; make it with --hidden", name, layer);
    }
  }
  CacheFile file{std::move(*meta), source.tokens(), session.model->make_cache({.capacity = 0}), {}};
  file.cache = session.model->make_cache({.capacity = file.meta.token_count + options.extra_tokens,
                                          .keep_unrotated_keys = options.keep_unrotated_keys});
  file.cache.extend(0, file.meta.token_count);
  TileLoader(decoded, file, name, options.hidden_layers).run(session.model->threads());
  if (decoded.next_member()) {
    fail_input(
        "{}: holds several members; take one (kvcat --members), join the parts of one cache "
        "(kvcat --join), or fuse different ones (kvblend)",
        name);
  }
  return file;
}

}  // namespace kv
