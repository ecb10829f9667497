#include "key_rows.hh"
#include "kv/codec/codec.hh"
#include "kv/codec/decoded_source.hh"
#include "kv/convert/convert.hh"

#include <algorithm>
#include <future>

namespace kv {
namespace {

using format::Kind;

DType chosen_dtype(const Layout& layout, const LayoutOptions& options, DType own) {
  const DType dtype = options.dtype.value_or(layout.default_dtype.value_or(own));
  if (std::find(layout.dtypes.begin(), layout.dtypes.end(), dtype) != layout.dtypes.end()) {
    return dtype;
  }
  std::vector<std::string_view> names;
  for (const DType known : layout.dtypes) names.push_back(dtype_name(known));
  fail_usage("{} holds no {}; give --dtype with one of {}", layout.name, dtype_name(dtype),
             fmt::join(names, ", "));
}

void require_exportable(const Meta& meta, const std::string& name, const Layout& layout) {
  if (meta.layers.empty()) fail_input("{}: holds no layers", name);
  if (meta.token_count == 0) fail_input("{}: holds no tokens", name);
  for (const LayerMeta& layer : meta.layers) {
    if (layer.latent_dim > 0) {
      fail_input("{}: layer {} has latents (MLA), not K and V; no layout is known for them", name,
                 layer.index);
    }
  }
  if (layout.from_first_token && meta.first_position != 0) {
    fail_input(
        "{}: begins at position {}; {} looks for caches from the first token on: join it "
        "with what stands before (kvcat --join)",
        name, meta.first_position, layout.name);
  }
}

// The rows of a layer, put together from tiles.
struct Rows {
  const Meta* meta;
  const LayoutCache* cache;
  bool turn;         // keys, by RoPE
  KeyRows* convert;  // that of all layers
  std::size_t layer = 0;
  ByteView keys, values;
  Bytes own_keys, own_values, scratch;

  void begin(std::size_t number) {
    layer = number;
    keys = values = {};
  }
  // `stays`: the tile's bytes, longer than the layer.
  void put(const Tile& tile, bool stays, const std::string& place) {
    const auto first = static_cast<std::int64_t>(tile.header.token_begin);
    if (first >= cache->token_count) return;
    TensorView view = decoded_tile(*meta, tile, place, scratch);
    view = view.tokens(0, std::min(view.shape[0], cache->token_count - first));
    const bool key = tile.header.kind == Kind::kK;
    ByteView& all = key ? keys : values;
    // One tile of what is wanted already needs no copy.
    if (stays && tile.header.codec == format::kRaw && view.dtype == cache->dtype &&
        !(key && turn) && view.shape[0] == cache->token_count) {
      all = view.bytes;
      return;
    }
    Bytes& own = key ? own_keys : own_values;
    own.resize(cache->size_bytes(layer, tile.header.kind));
    all = own;
    const std::size_t row = cache->shape(layer, tile.header.kind).row_bytes();
    const std::span<std::byte> to = std::span(own).subspan(
        static_cast<std::size_t>(first) * row, static_cast<std::size_t>(view.shape[0]) * row);
    if (key && turn) {
      convert->turned(layer, first, view.bytes, view.dtype, to, cache->dtype);
    } else {
      convert->converted(view.bytes, view.dtype, to, cache->dtype);
    }
  }
};

}  // namespace

ExportReport export_cache(TileSource& source, const Layout& layout, const LayoutTarget& target,
                          const LayoutOptions& given, int threads) {
  const LayoutOptions options = complete(layout, given);
  DecodedSource decoded(source, {}, {}, threads);
  const std::optional<Meta> meta = decoded.next_member();
  if (!meta) fail_input("{}: empty, no cache", source.name());
  require_exportable(*meta, source.name(), layout);
  const bool rope = options.rope.value_or(true);
  if (meta->rope_applied && !rope) {
    fail_input("{}: keys have RoPE applied; import it again without", source.name());
  }
  LayoutCache cache = {
      meta->model,    meta->layers,      chosen_dtype(layout, options, meta->dtype),
      rope,           meta->token_count, meta->first_position,
      source.tokens()};
  if (layout.needs_tokens && cache.tokens.empty()) {
    fail_input("{}: has no token ids, which {} needs", source.name(), layout.name);
  }
  if (options.blocks) {
    cache.token_count -= cache.token_count % options.blocks->tokens;
    if (cache.token_count == 0) {
      fail_input("{}: {} tokens are less than a block of {}", source.name(), meta->token_count,
                 options.blocks->tokens);
    }
    cache.tokens.resize(static_cast<std::size_t>(cache.token_count));
  }
  ExportReport report{cache.token_count,
                      meta->token_count,
                      !meta->hidden_layers.empty(),
                      !source.importance().empty(),
                      {}};

  LayoutTarget threaded = target;
  threaded.threads = threads;
  const std::unique_ptr<LayoutWriter> writer = layout.writer(cache, threaded, options);
  KeyRows keys(cache, RopeTable::Turn::kForth, threads);
  Rows ready{&*meta, &cache, rope && !meta->rope_applied, &keys};
  Rows ahead = ready;
  std::future<void> written;  // last: waited for before what it uses goes
  std::size_t layer = 0;
  bool begun = false;
  // A layer is written while the next one is made; as both can fail, one at a time is told.
  const auto end_layer = [&] {
    if (written.valid()) written.get();
    std::swap(ready, ahead);
    if (ready.keys.empty() || ready.values.empty()) {
      fail_input("{}: layer {} has no K or no V", source.name(), cache.layers[layer].index);
    }
    written = std::async(
        threads > 1 ? std::launch::async : std::launch::deferred,
        [&writer, &ready, layer] { writer->write_layer(layer, ready.keys, ready.values); });
    ++layer;
    begun = false;
  };
  Bytes moved;  // of a tile that was decoded, not mapped
  const bool mapped = source.keeps_tiles();
  const auto next = [&] { return mapped ? decoded.next_tile(moved) : decoded.next_tile(); };
  while (const std::optional<Tile> tile = next()) {
    if (tile->header.kind != Kind::kK && tile->header.kind != Kind::kV) continue;
    if (begun && tile->header.layer != cache.layers[layer].index) end_layer();
    if (!begun) ahead.begin(layer);
    begun = true;
    ahead.put(*tile, mapped && tile->data.data() != moved.data(),
              fmt::format("{}: byte {}", source.name(), tile->frame_offset));
  }
  end_layer();
  written.get();
  if (decoded.next_member()) {
    fail_input(
        "{}: holds several members; take one (kvcat --members), or join the parts of one "
        "cache (kvcat --join)",
        source.name());
  }
  writer->commit();
  report.made_for = writer->made_for();
  return report;
}

}  // namespace kv
