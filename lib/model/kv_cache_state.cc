#include "kv/model/kv_cache_state.hh"

#include "kv/model/parallel.hh"
#include "kv/model/row_ops.hh"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/BFloat16.h>

#include <algorithm>
#include <limits>

namespace kv {
namespace {

constexpr std::int64_t kAnglesAtOnce = 512;
constexpr std::int64_t kSlotsAtOnce = 64;  // a thread's share; a pair of values is one thread's

constexpr std::int64_t kRunSlots = 16;  // keys turned before they are put: a line of the cache

// How many of the first `most` slots follow each other within a tile.
std::int64_t run_length(std::span<const std::int64_t> slots, std::int64_t most) {
  most = std::min(most, kTileSlots - slots.front() % kTileSlots);
  std::int64_t run = 1;
  while (run < most && slots[static_cast<std::size_t>(run)] == slots.front() + run) ++run;
  return run;
}

std::int64_t tiles_for(std::int64_t slots) { return (slots + kTileSlots - 1) / kTileSlots; }

template <typename T>
void put_keys(const KvCache::State& state, std::int64_t layer, std::span<const std::int64_t> slots,
              const at::Tensor& rows) {
  const LayerGeometry& geometry = state.geometry[static_cast<std::size_t>(layer)];
  const LayerStore& store = state.layers[static_cast<std::size_t>(layer)];
  const RopeRows& rope = state.rope_of(layer);
  const Tiles<T> tiles(store.keys, geometry.kv_heads, geometry.k_dim);
  const RowOps<T>& ops = row_ops<T>();
  const std::int64_t width = geometry.kv_heads * geometry.k_dim, half = geometry.k_dim / 2;
  const T* in = rows.const_data_ptr<T>();
  T* raw = store.raw_keys.defined() ? store.raw_keys.mutable_data_ptr<T>() : nullptr;
  const float *cos = rope.cos.const_data_ptr<float>(), *sin = rope.sin.const_data_ptr<float>();
  const auto count = static_cast<std::int64_t>(slots.size());
  parallel_ranges(count, kSlotsAtOnce, [&](std::int64_t begin, std::int64_t end) {
    std::vector<T> turned(static_cast<std::size_t>(kRunSlots * geometry.k_dim));
    while (begin < end) {
      const std::int64_t slot = slots[static_cast<std::size_t>(begin)];
      const std::int64_t run = run_length(slots.subspan(static_cast<std::size_t>(begin)),
                                          std::min(kRunSlots, end - begin));
      for (std::int64_t head = 0; head < geometry.kv_heads; ++head) {
        ops.rotate_rows(in + begin * rows.stride(0) + head * geometry.k_dim, rows.stride(0),
                        cos + slot * half, sin + slot * half, half, run, turned.data());
        if (run == kRunSlots) {
          ops.spread_keys(turned.data(), geometry.k_dim, tiles.key(head, slot));
        } else {
          tiles.put_keys(head, slot, run, turned.data());
        }
      }
      if (raw != nullptr) {
        for (std::int64_t i = 0; i < run; ++i) {
          std::copy_n(in + (begin + i) * rows.stride(0), width, raw + (slot + i) * width);
        }
      }
      begin += run;
    }
  });
}

template <typename T>
void put_values(const KvCache::State& state, std::int64_t layer,
                std::span<const std::int64_t> slots, const at::Tensor& rows) {
  const LayerGeometry& geometry = state.geometry[static_cast<std::size_t>(layer)];
  const Tiles<T> tiles(state.layers[static_cast<std::size_t>(layer)].values, geometry.kv_heads,
                       geometry.v_dim);
  const T* in = rows.const_data_ptr<T>();
  const auto count = static_cast<std::int64_t>(slots.size());
  parallel_ranges(count, kSlotsAtOnce, [&](std::int64_t begin, std::int64_t end) {
    while (begin < end) {
      const std::int64_t slot = slots[static_cast<std::size_t>(begin)];
      const T* row = in + begin * rows.stride(0);
      const bool pair = Tiles<T>::kGroup == 2 && slot % 2 == 0 && begin + 1 < end &&
                        slots[static_cast<std::size_t>(begin + 1)] == slot + 1;
      for (std::int64_t head = 0; head < geometry.kv_heads; ++head, row += geometry.v_dim) {
        if (pair) {
          row_ops<T>().pair_values(row, row + rows.stride(0), geometry.v_dim,
                                   tiles.value(head, slot));
        } else {
          tiles.put_value(head, slot, row);
        }
      }
      begin += pair ? 2 : 1;
    }
  });
}

template <typename T>
void get_values(const KvCache::State& state, std::int64_t layer, std::int64_t first_slot,
                const at::Tensor& out) {
  const LayerGeometry& geometry = state.geometry[static_cast<std::size_t>(layer)];
  const Tiles<T> tiles(state.layers[static_cast<std::size_t>(layer)].values, geometry.kv_heads,
                       geometry.v_dim);
  T* row = out.mutable_data_ptr<T>();
  parallel_ranges(out.size(0), kSlotsAtOnce, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * geometry.kv_heads; i < end * geometry.kv_heads; ++i) {
      tiles.get_value(i % geometry.kv_heads, first_slot + i / geometry.kv_heads,
                      row + i * geometry.v_dim);
    }
  });
}

// Values of slots behind the last one are multiplied by a probability of zero: they must be finite.
template <typename T>
void clear_values(const KvCache::State& state, std::size_t layer, std::int64_t from,
                  std::int64_t to) {
  const LayerGeometry& geometry = state.geometry[layer];
  const Tiles<T> tiles(state.layers[layer].values, geometry.kv_heads, geometry.v_dim);
  const std::vector<T> zeros(static_cast<std::size_t>(geometry.v_dim), T(0.0f));
  for (std::int64_t head = 0; head < geometry.kv_heads; ++head) {
    for (std::int64_t slot = from; slot < to; ++slot) tiles.put_value(head, slot, zeros.data());
  }
}

void clear_values(const KvCache::State& state, std::size_t layer, std::int64_t from,
                  std::int64_t to) {
  state.type == at::kFloat ? clear_values<float>(state, layer, from, to)
                           : clear_values<c10::BFloat16>(state, layer, from, to);
}

at::Tensor index_of(std::span<const std::int64_t> slots, at::Device device) {
  return at::from_blob(const_cast<std::int64_t*>(slots.data()),
                       {static_cast<std::int64_t>(slots.size())}, at::TensorOptions(at::kLong))
      .to(device);
}

}  // namespace

at::Tensor rotated(const at::Tensor& rows, const at::Tensor& cos, const at::Tensor& sin) {
  const std::int64_t half = rows.size(-1) / 2;
  const at::Tensor all = rows.to(at::kFloat);
  const at::Tensor a = all.narrow(-1, 0, half), b = all.narrow(-1, half, half);
  const at::Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1);
  return at::cat({a * c - b * s, b * c + a * s}, -1).to(rows.scalar_type());
}

KvCache::State::State(std::vector<LayerGeometry> layer_geometry, std::int64_t slots, bool keep_raw,
                      at::ScalarType dtype, at::Device where, bool in_tiles)
    : geometry(std::move(layer_geometry)),
      type(dtype),
      device(where),
      tiled(in_tiles),
      keeps_raw(keep_raw),
      capacity(slots) {
  for (const LayerGeometry& layer : geometry) {
    LayerStore store;
    if (layer.window < kPositionLimit) store.window = layer.window;
    const auto same = std::ranges::find_if(ropes, [&](const RopeRows& rope) {
      return rope.rope == layer.rope && rope.dim == layer.k_dim;
    });
    store.rope = static_cast<std::size_t>(same - ropes.begin());
    if (same == ropes.end()) {
      const auto angles = at::TensorOptions(at::kFloat).device(device);
      ropes.push_back({layer.rope, layer.k_dim, inverse_frequencies(layer.rope, layer.k_dim),
                       at::empty({slots, layer.k_dim / 2}, angles),
                       at::empty({slots, layer.k_dim / 2}, angles)});
    }
    layers.push_back(std::move(store));
  }
  if (!tiled) device_positions = at::empty({slots}, at::TensorOptions(at::kInt).device(device));
}

void KvCache::State::allocate(std::int64_t index) {
  const LayerGeometry& layer = geometry[static_cast<std::size_t>(index)];
  LayerStore& store = layers[static_cast<std::size_t>(index)];
  const auto options = at::TensorOptions(type).device(device);
  const std::int64_t rows = tiled ? tiles_for(capacity) * kTileSlots : capacity;
  store.keys = at::empty({rows, layer.kv_heads, layer.k_dim}, options);
  store.values = at::empty({rows, layer.kv_heads, layer.v_dim}, options);
  if (keeps_raw) store.raw_keys = at::empty({capacity, layer.kv_heads, layer.k_dim}, options);
  if (tiled) clear_values(*this, static_cast<std::size_t>(index), size, cleared);
}

void KvCache::State::resize(std::int64_t slots) {
  size = slots;
  positions.resize(static_cast<std::size_t>(slots));
  positions.resize(static_cast<std::size_t>(tiles_for(slots) * kTileSlots),
                   std::numeric_limits<std::int32_t>::max());
  tiles.resize(static_cast<std::size_t>(tiles_for(slots)));
  if (tiles.empty()) return;
  const auto [least, greatest] = std::ranges::minmax(std::span(positions).last(kTileSlots));
  tiles.back() = {least, greatest};
}

void KvCache::State::set_positions(std::int64_t first, std::span<const std::int32_t> added) {
  const auto count = static_cast<std::int64_t>(added.size());
  resize(first + count);
  std::ranges::copy(added, positions.begin() + first);
  for (std::int64_t tile = first / kTileSlots; tile < tiles_for(size); ++tile) {
    const auto [least, greatest] = std::ranges::minmax(std::span(positions).subspan(
        static_cast<std::size_t>(tile * kTileSlots), static_cast<std::size_t>(kTileSlots)));
    tiles[static_cast<std::size_t>(tile)] = {least, greatest};
  }
  for (RopeRows& rope : ropes) {
    parallel_ranges(count, kAnglesAtOnce, [&](std::int64_t begin, std::int64_t end) {
      const c10::InferenceMode as_made;
      const RopeAngles angles = rope_angles(
          rope.rope, rope.frequencies,
          added.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
      rope.cos.narrow(0, first + begin, end - begin).copy_(angles.cos);
      rope.sin.narrow(0, first + begin, end - begin).copy_(angles.sin);
    });
  }
  if (!tiled) {
    device_positions.narrow(0, first, count)
        .copy_(at::from_blob(const_cast<std::int32_t*>(added.data()), {count},
                             at::TensorOptions(at::kInt)));
    return;
  }
  const std::int64_t end = tiles_for(size) * kTileSlots;
  if (end > cleared) {
    const std::int64_t from = std::max(size.load(), cleared);
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
      if (layers[layer].values.defined()) clear_values(*this, layer, from, end);
    }
    cleared = end;
  }
}

void KvCache::State::store_keys(std::int64_t layer, std::span<const std::int64_t> slots,
                                const at::Tensor& keys) {
  if (tiled) {
    type == at::kFloat ? put_keys<float>(*this, layer, slots, keys)
                       : put_keys<c10::BFloat16>(*this, layer, slots, keys);
    return;
  }
  LayerStore& store = layers[static_cast<std::size_t>(layer)];
  const RopeRows& rope = rope_of(layer);
  const at::Tensor index = index_of(slots, device);
  store.keys.index_copy_(
      0, index, rotated(keys, rope.cos.index_select(0, index), rope.sin.index_select(0, index)));
  if (store.raw_keys.defined()) store.raw_keys.index_copy_(0, index, keys);
}

void KvCache::State::store_values(std::int64_t layer, std::span<const std::int64_t> slots,
                                  const at::Tensor& values) {
  if (tiled) {
    type == at::kFloat ? put_values<float>(*this, layer, slots, values)
                       : put_values<c10::BFloat16>(*this, layer, slots, values);
    return;
  }
  layers[static_cast<std::size_t>(layer)].values.index_copy_(0, index_of(slots, device), values);
}

at::Tensor KvCache::State::values_of(std::int64_t layer, std::int64_t first_slot,
                                     std::int64_t count) const {
  const at::Tensor& values = layers[static_cast<std::size_t>(layer)].values;
  if (!tiled) return values.narrow(0, first_slot, count);
  at::Tensor rows = at::empty({count, values.size(1), values.size(2)}, values.options());
  type == at::kFloat ? get_values<float>(*this, layer, first_slot, rows)
                     : get_values<c10::BFloat16>(*this, layer, first_slot, rows);
  return rows;
}

}  // namespace kv
