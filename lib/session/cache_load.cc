#include "kv/session/cache_load.hh"

#include "kv/checkpoint/card.hh"
#include "kv/codec/codec.hh"
#include "kv/session/layer_load.hh"

#include <algorithm>
#include <optional>
#include <utility>

namespace kv {
namespace {

void require_hidden(const Meta& meta, const std::string& name,
                    const std::vector<std::uint32_t>& layers) {
  for (const std::uint32_t layer : layers) {
    if (!std::binary_search(meta.hidden_layers.begin(), meta.hidden_layers.end(), layer)) {
      fail_input("{}: keeps no E at layer {}; make it with --hidden", name, layer);
    }
  }
}

}  // namespace

void require_usable(const Meta& meta, const std::string& name, const Session& session) {
  require_same_model(meta, name, session.identity);
  if (meta.layers != layers_of(session.checkpoint->config())) {
    fail_input("{}: holds {} of the model's {} layers; join the parts with kvcat --join", name,
               meta.layers.size(), session.checkpoint->config().layers.size());
  }
  if (meta.rope_applied) fail_input("{}: keys have RoPE applied; import it again without", name);
}

struct CacheLoad::State {
  CacheFileOptions options;
  std::optional<CacheFile> file;
  std::optional<LayerLoad> load;  // last: its threads end before the rest goes

  void keep_hidden(const LoadPart& part, const Tile& tile) {
    const std::uint32_t layer = tile.header.layer;
    if (std::ranges::find(options.hidden_layers, layer) == options.hidden_layers.end()) return;
    Bytes scratch;
    const TensorView rows = decoded_tile(part.meta, tile, part.name, scratch);
    Bytes& hidden = file->hidden[layer];
    hidden.insert(hidden.end(), rows.bytes.begin(), rows.bytes.end());
  }
};

CacheLoad::CacheLoad(std::unique_ptr<State> state) : state_(std::move(state)) {}
CacheLoad::CacheLoad(CacheLoad&&) noexcept = default;
CacheLoad& CacheLoad::operator=(CacheLoad&&) noexcept = default;
CacheLoad::~CacheLoad() = default;

std::optional<CacheLoad> CacheLoad::open(Input input, const Session& session,
                                         const CacheFileOptions& options) {
  const Model& model = *session.model;
  auto state = std::make_unique<State>();
  state->options = options;
  LoadPart part;
  part.source = std::make_unique<TileSource>(std::move(input), TileSource::Access::kSome, true);
  part.decoded = std::make_unique<DecodedSource>(*part.source, Range{}, Range{}, model.threads());
  std::optional<Meta> meta = part.decoded->next_member();
  if (!meta) return std::nullopt;
  part.meta = *meta;
  part.name = part.source->name();
  part.if_several =
      "take one (kvcat --members), join the parts of one cache (kvcat --join), or fuse different "
      "ones (kvblend)";
  require_usable(*meta, part.name, session);
  if (meta->first_position != 0) {
    fail_input("{}: begins at position {}; join it with what stands before (kvcat --join)",
               part.name, meta->first_position);
  }
  require_hidden(*meta, part.name, options.hidden_layers);
  KvCache cache = model.make_cache({.capacity = meta->token_count + options.extra_tokens,
                                    .keep_unrotated_keys = options.keep_unrotated_keys});
  cache.extend(0, meta->token_count);
  state->file.emplace(CacheFile{std::move(*meta), part.source->tokens(), std::move(cache), {}});
  State& kept = *state;
  std::vector<LoadPart> parts;
  parts.push_back(std::move(part));
  kept.load.emplace(std::move(parts), kept.file->cache,
                    LayerLoadOptions{.threads = model.threads() - 1,
                                     .on_hidden = [&kept](const LoadPart& of, const Tile& tile) {
                                       kept.keep_hidden(of, tile);
                                     }});
  return CacheLoad(std::move(state));
}

CacheFile& CacheLoad::file() { return *state_->file; }

void CacheLoad::wait(std::int64_t layer) { state_->load->wait(layer); }

CacheFile CacheLoad::finish() {
  for (std::int64_t layer = 0; layer < file().cache.layer_count(); ++layer) wait(layer);
  state_->load->end_threads();
  return *std::exchange(state_->file, std::nullopt);
}

double CacheLoad::load_s() const { return state_->load->load_s(); }

std::optional<CacheFile> read_cache(Input input, const Session& session,
                                    const CacheFileOptions& options) {
  std::optional<CacheLoad> load = CacheLoad::open(std::move(input), session, options);
  if (!load) return std::nullopt;
  return load->finish();
}

}  // namespace kv
