#include "block_store.hh"

namespace kv {

BlockStore::BlockStore(const LayoutCache& cache, const StoreOptions& options, std::int64_t block)
    : cache_(cache), options_(options), block_(static_cast<std::size_t>(block)) {
  if (options.model_name.empty()) {
    fail_usage("--model-name: give the name that the engine was started with");
  }
  const LayerGeometry& first = cache.layers[0].geometry;
  for (const LayerMeta& layer : cache.layers) {
    const LayerGeometry& geometry = layer.geometry;
    if (geometry.k_dim != geometry.v_dim || geometry.kv_heads != first.kv_heads ||
        geometry.k_dim != first.k_dim) {
      fail_input("layer {}: K and V of all layers have one shape in these stores", layer.index);
    }
  }
  if (first.kv_heads % options.tp != 0) {
    fail_usage("--tp {}: {} KV heads are no multiple", options.tp, first.kv_heads);
  }
}

std::size_t BlockStore::checked(const std::string& name, ByteView bytes) const {
  const std::size_t wanted = header().size() + file_bytes();
  if (bytes.size() == wanted) return header().size();
  fail_input("{}: {} bytes, where the model's geometry and --block {} need {}", name, bytes.size(),
             block_, wanted);
}

std::vector<EngineKey> BlockStore::keys(TokenIds ids) const {
  return engine_keys(key_family_by_name(family()), ids, static_cast<std::int64_t>(block_),
                     options_.seed);
}

std::size_t BlockStore::heads() const {
  return static_cast<std::size_t>(cache_.layers[0].geometry.kv_heads) / devices();
}
std::size_t BlockStore::row_bytes() const {
  return static_cast<std::size_t>(cache_.layers[0].geometry.k_dim) * dtype_size_bytes(cache_.dtype);
}

std::string BlockStore::model_name(std::string_view slash) const {
  std::string name;
  for (const char character : options_.model_name) {
    if (character == '/') {
      name += slash;
    } else {
      name += character;
    }
  }
  return name;
}

}  // namespace kv
