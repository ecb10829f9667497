#pragma once
// How a cache lies in memory; for lib/model only.
//
// Plain: keys (rotated) and values [slots][heads][dim].
// Tiled, for the CPU's matrix multiplication, which reads a tile of 64 slots as it lies:
//   f32   keys [heads][tiles][dim][64],       values [heads][tiles * 64][dim]
//   bf16  keys [heads][tiles][dim / 2][64][2], values [heads][tiles * 32][dim][2]

#include "kv/model/kv_cache.hh"
#include "kv/model/rope.hh"

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <atomic>
#include <cstring>
#include <vector>

namespace kv {

constexpr std::int64_t kTileSlots = 64;
constexpr std::int32_t kPositionLimit = 1 << 24;  // exact in f32, where angles are computed

struct LayerStore {
  at::Tensor keys, values;
  at::Tensor raw_keys;  // [slots][heads][dim] before rotation, if kept
  std::size_t rope = 0;
  std::int64_t window = 0;  // 0 also where it is wider than any text
};

// Angles of the slots in use; layers with the same RoPE share one.
struct RopeRows {
  Rope rope;
  std::int64_t dim = 0;
  at::Tensor frequencies;
  at::Tensor cos, sin;  // f32 [capacity][dim / 2]
};

// Least and greatest position within a tile.
struct TileSpan {
  std::int32_t least, greatest;
};

struct KvCache::State {
  std::vector<LayerGeometry> geometry;
  std::vector<LayerStore> layers;
  std::vector<RopeRows> ropes;
  at::ScalarType type = at::kFloat;
  at::Device device = at::kCPU;
  bool tiled = false, keeps_raw = false;
  std::atomic<std::int64_t> size =
      0;  // read by threads that load, while the one that computes extends
  std::int64_t capacity = 0;
  std::int64_t cleared = 0;             // slots below have values that are finite
  std::vector<std::int32_t> positions;  // slots in use, then INT32_MAX to the end of the tile
  std::vector<TileSpan> tiles;
  at::Tensor device_positions;  // int32, plain caches

  // Layers have no memory until allocate().
  State(std::vector<LayerGeometry> layer_geometry, std::int64_t slots, bool keep_raw,
        at::ScalarType dtype, at::Device where, bool in_tiles);
  void allocate(std::int64_t layer);
  void set_positions(std::int64_t first, std::span<const std::int32_t> added);

  void resize(std::int64_t slots);

  // Rows [rows][heads][dim], with any row stride, to their slots; keys un-rotated.
  void store_keys(std::int64_t layer, std::span<const std::int64_t> slots, const at::Tensor& keys);
  void store_values(std::int64_t layer, std::span<const std::int64_t> slots,
                    const at::Tensor& values);
  at::Tensor values_of(std::int64_t layer, std::int64_t first_slot, std::int64_t count) const;

  const RopeRows& rope_of(std::int64_t layer) const {
    return ropes[layers[static_cast<std::size_t>(layer)].rope];
  }
};

// Rotates [rows][heads][dim] by [rows][dim / 2] angles, with LibTorch's operations.
at::Tensor rotated(const at::Tensor& rows, const at::Tensor& cos, const at::Tensor& sin);

// Element addresses in a tiled tensor of one layer.
template <typename T>
class Tiles {
 public:
  static constexpr std::int64_t kGroup = sizeof(T) == 2 ? 2 : 1;  // values multiplied as a unit

  Tiles(const at::Tensor& tensor, std::int64_t heads, std::int64_t dim)
      : data_(tensor.mutable_data_ptr<T>()), head_stride_(tensor.numel() / heads), dim_(dim) {}

  T* tile(std::int64_t head, std::int64_t index) const {
    return data_ + head * head_stride_ + index * kTileSlots * dim_;
  }
  // `count` rows [dim] that follow each other in memory, to slots of one tile that do.
  void put_keys(std::int64_t head, std::int64_t slot, std::int64_t count, const T* rows) const {
    T* out = key(head, slot);
    for (std::int64_t i = 0; i < dim_; i += kGroup) {
      for (std::int64_t row = 0; row < count; ++row) {
        std::memcpy(out + i * kTileSlots + row * kGroup, rows + row * dim_ + i, kGroup * sizeof(T));
      }
    }
  }
  // Where the first unit of a slot's key or value lies.
  T* key(std::int64_t head, std::int64_t slot) const {
    return tile(head, slot / kTileSlots) + slot % kTileSlots * kGroup;
  }
  T* value(std::int64_t head, std::int64_t slot) const {
    return data_ + head * head_stride_ + slot / kGroup * kGroup * dim_ + slot % kGroup;
  }
  void put_value(std::int64_t head, std::int64_t slot, const T* row) const {
    T* out = value(head, slot);
    for (std::int64_t i = 0; i < dim_; ++i) out[i * kGroup] = row[i];
  }
  void get_value(std::int64_t head, std::int64_t slot, T* row) const {
    const T* in = value(head, slot);
    for (std::int64_t i = 0; i < dim_; ++i) row[i] = in[i * kGroup];
  }

 private:
  T* data_;
  std::int64_t head_stride_;
  std::int64_t dim_;
};

}  // namespace kv
