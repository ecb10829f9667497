#include "kv/session/session.hh"

#include "kv/checkpoint/card.hh"
#include "kv/codec/codec.hh"
#include "kv/codec/decoded_source.hh"

#include <algorithm>

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

void load_tile(CacheFile& file, const Tile& tile, const std::string& place, Bytes& scratch,
               const std::vector<std::uint32_t>& hidden_layers) {
  const format::TileHeader& header = tile.header;
  const auto layer = static_cast<std::int64_t>(header.layer);
  const auto first = static_cast<std::int64_t>(header.token_begin);
  if (header.kind != format::Kind::kE) {
    const CachePart part = header.kind == format::Kind::kK ? CachePart::kKeys : CachePart::kValues;
    file.cache.load(layer, part, first, decoded_tile(file.meta, tile, place, scratch));
    return;
  }
  const auto wanted = std::find(hidden_layers.begin(), hidden_layers.end(), header.layer);
  if (wanted == hidden_layers.end()) return;
  const TensorView rows = decoded_tile(file.meta, tile, place, scratch);
  Bytes& hidden = file.hidden[header.layer];
  hidden.insert(hidden.end(), rows.bytes.begin(), rows.bytes.end());
}

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
  Bytes scratch;
  while (const std::optional<Tile> tile = decoded.next_tile()) {
    load_tile(file, *tile, name, scratch, options.hidden_layers);
  }
  if (decoded.next_member()) {
    fail_input(
        "{}: holds several members; take one (kvcat --members), join the parts of one cache "
        "(kvcat --join), or fuse different ones (kvblend)",
        name);
  }
  return file;
}

}  // namespace kv
