#include "kv/convert/layout.hh"

#include "layouts.hh"

#include <algorithm>

namespace kv {

TensorView LayoutCache::shape(std::size_t layer, format::Kind kind) const {
  const LayerGeometry& geometry = layers[layer].geometry;
  return {
      dtype,
      {token_count, geometry.kv_heads, kind == format::Kind::kK ? geometry.k_dim : geometry.v_dim},
      {}};
}

std::size_t LayoutCache::size_bytes(std::size_t layer, format::Kind kind) const {
  return static_cast<std::size_t>(token_count) * shape(layer, kind).row_bytes();
}

void LayoutReader::take_tokens(std::span<const std::int32_t> ids) {
  if (std::cmp_less(ids.size(), cache_.token_count)) {
    fail_input("{} token ids for {} tokens in the cache", ids.size(), cache_.token_count);
  }
  cache_.tokens.assign(ids.begin(), ids.begin() + cache_.token_count);
}

std::span<const Layout> layouts() {
  static const std::vector<Layout> all = {
      npy_layout(),       transformers_layout(), llamacpp_layout(), vllm_layout(),
      vllm_tier_layout(), hicache_layout(),      lmcache_layout(),  lmcache_gds_layout()};
  return all;
}

const Layout& layout_by_name(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Layout& layout : layouts()) {
    if (layout.name == name) return layout;
    names.push_back(layout.name);
  }
  fail_usage("layout '{}' is unknown; give one of {}", name, fmt::join(names, ", "));
}

LayoutOptions complete(const Layout& layout, LayoutOptions options) {
  if (options.rope && !layout.can_leave_rope) {
    fail_usage("--no-rope: {} has keys with RoPE always", layout.name);
  }
  if (options.llama && !layout.llama) {
    fail_usage("--values, --state-version: llamacpp has these, not {}", layout.name);
  }
  if (options.blocks && !layout.blocks) fail_usage("--block, --backend: {} has none", layout.name);
  if (options.blocks && options.blocks->backend != VllmBackend::kHere && !layout.backends) {
    fail_usage("--backend: vllm has this, not {}", layout.name);
  }
  if (layout.blocks) {
    if (!options.blocks) options.blocks = layout.blocks;
    if (options.blocks->tokens == 0) options.blocks->tokens = layout.blocks->tokens;
  }
  if (options.store && !layout.store) {
    fail_usage("--tp, --model-name, --seed, --no-header: stores of blocks have these, not {}",
               layout.name);
  }
  if (layout.store && !options.store) options.store.emplace();
  return options;
}

void require_shape(const std::string& place, std::span<const std::int64_t> found,
                   std::span<const std::int64_t> wanted) {
  if (std::equal(found.begin(), found.end(), wanted.begin(), wanted.end())) return;
  fail_input("{}: shape [{}], where the model's geometry needs [{}]", place, fmt::join(found, ", "),
             fmt::join(wanted, ", "));
}

void require_layers(const std::string& place, const std::vector<LayerMeta>& layers,
                    const std::function<bool(std::uint32_t)>& has) {
  for (const LayerMeta& layer : layers) {
    if (!has(layer.index)) {
      fail_input("{}: has no layer {}; the model has {}", place, layer.index, layers.size());
    }
  }
  if (const std::uint32_t next = layers.back().index + 1; has(next)) {
    fail_input("{}: has a layer {}; the model has {}", place, next, layers.size());
  }
}

std::vector<std::int32_t> ids_of_int64(ByteView bytes, const std::string& place) {
  std::vector<std::int32_t> ids;
  ByteReader reader(bytes, place);
  while (reader.remaining() > 0) {
    const auto id = reader.get<std::int64_t>();
    if (!std::in_range<std::int32_t>(id) || id < 0) {
      fail_input("{}: {} is no token id", place, id);
    }
    ids.push_back(static_cast<std::int32_t>(id));
  }
  return ids;
}

void require_token_count(const std::string& place, std::int64_t count) {
  if (count >= 1 && std::cmp_less_equal(count, format::kMaxTokens)) return;
  fail_input("{}: {} tokens; from 1 to {} can be", place, count, format::kMaxTokens);
}

}  // namespace kv
