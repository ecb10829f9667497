#pragma once
// The keys and values of one token sequence, all layers, in the model's compute dtype. A slot is a
// row of the cache; each has a position in the text, which is what RoPE and causality go by.

#include "kv/container/geometry.hh"
#include "kv/container/tensor.hh"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace kv {

class Model;

enum class CachePart { kKeys, kValues };

class KvCache {
 public:
  KvCache(KvCache&&) noexcept;
  KvCache& operator=(KvCache&&) noexcept;
  ~KvCache();

  std::int64_t size() const;      // slots in use
  std::int64_t capacity() const;  // memory is touched only as slots are used
  std::int64_t layer_count() const;
  const LayerGeometry& geometry(std::int64_t layer) const;
  std::span<const std::int32_t> positions() const;  // of the slots in use
  // Position behind the last one; 0 when empty.
  std::int64_t next_position() const;
  bool keeps_unrotated_keys() const;

  // Of a cache made with CacheOptions::layers_on_demand: memory for a layer's slots, which are then
  // undefined, and the end of it. Different layers may be opened, closed and used by different
  // threads, but not while the cache grows. What uses a layer that is not open throws kUsage.
  void open_layer(std::int64_t layer);
  void close_layer(std::int64_t layer);

  // Takes the next slots for rows at these positions and returns the first. Their keys and values
  // are undefined until load() or Model::run_layer() writes them, layer by layer; a layer run
  // before its slots are all written reads what is not there. Throws kUsage beyond the capacity or
  // on a position outside [0, 2^24).
  std::int64_t extend(std::span<const std::int32_t> positions);
  std::int64_t extend(std::int64_t first_position, std::int64_t count);
  // Gives back the slots from `size` on: to answer several questions from one cache.
  void truncate(std::int64_t size);

  // Rows of one layer from bytes of any float dtype, from `first_slot` on. Keys come un-rotated,
  // as files keep them. Throws kInput when the shape is not the layer's.
  void load(std::int64_t layer, CachePart part, std::int64_t first_slot, const TensorView& rows);
  // The same rows back, `out` filled. What was loaded in the compute dtype comes back bit by bit.
  // Throws kUsage for keys unless the cache keeps them un-rotated.
  void save(std::int64_t layer, CachePart part, std::int64_t first_slot, std::int64_t count,
            DType dtype, std::span<std::byte> out) const;

  struct State;  // kv_cache_state.hh, for lib/model itself

 private:
  friend class Model;
  explicit KvCache(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kv
