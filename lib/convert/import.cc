#include "key_rows.hh"
#include "kv/convert/convert.hh"

#include <algorithm>

namespace kv {
namespace {

using format::Kind;

void require_ids(std::span<const std::int32_t> ids, std::int64_t vocab, const std::string& path) {
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= vocab) fail_input("{}: token id {} is not below {}", path, id, vocab);
  }
}

Meta meta_of(const LayoutCache& cache, const ImportOptions& import, DType dtype) {
  Meta meta;
  meta.model = import.model;
  meta.layers = cache.layers;
  meta.dtype = dtype;
  meta.token_count = cache.token_count;
  meta.first_position = cache.first_position;
  meta.history = import.history;
  const bool bos = import.bos && cache.first_position == 0 && !cache.tokens.empty() &&
                   cache.tokens.front() == *import.bos;
  meta.chunks.push_back({import.id, 0, cache.token_count, bos});
  return meta;
}

}  // namespace

void import_cache(const std::string& path, const Layout& layout, const LayoutOptions& given,
                  const ImportOptions& import, Output& output) {
  const LayoutOptions options = complete(layout, given);
  if (options.rope || options.llama) {
    fail_usage("--no-rope, --values, --state-version: with --to; files say what they have");
  }
  if (options.dtype == DType::kI8) fail_usage("--dtype int8: a codec's business; see kvencode");
  LayoutCache wanted;
  wanted.model = import.model;
  wanted.layers = import.layers;
  if (layout.asks_for_tokens && !import.tokens) {
    fail_usage("{}: files are found by their tokens; give --ids or --text", layout.name);
  }
  const std::unique_ptr<LayoutReader> reader = layout.reader(path, wanted, options);
  const LayoutCache& cache = reader->cache();
  if (import.tokens) {
    require_ids(*import.tokens, import.vocab, path);
    reader->take_tokens(*import.tokens);
  } else {
    require_ids(cache.tokens, import.vocab, path);
  }
  const Meta meta = meta_of(cache, import, options.dtype.value_or(cache.dtype));
  Writer writer(output);
  writer.begin_member(meta, cache.tokens);
  KeyRows key_rows(cache, RopeTable::Turn::kBack, import.threads);
  Bytes keys, values, out;
  for (std::size_t layer = 0; layer < cache.layers.size(); ++layer) {
    keys.resize(cache.size_bytes(layer, Kind::kK));
    values.resize(cache.size_bytes(layer, Kind::kV));
    reader->read_layer(layer, keys, values);
    for (const Kind kind : {Kind::kK, Kind::kV}) {
      TensorView view = cache.shape(layer, kind);
      view.dtype = meta.dtype;
      out.resize(static_cast<std::size_t>(cache.token_count) * view.row_bytes());
      if (kind == Kind::kK && cache.rope_applied) {
        key_rows.turned(layer, 0, keys, cache.dtype, out, meta.dtype);
      } else {
        key_rows.converted(kind == Kind::kK ? keys : values, cache.dtype, out, meta.dtype);
      }
      view.bytes = out;
      writer.write_raw(kind, cache.layers[layer].index, view);
    }
  }
  writer.end_member();
}

}  // namespace kv
