#include "kv/model/kv_cache.hh"

#include "kv/base/error.hh"
#include "kv/model/dtype.hh"
#include "kv/model/kv_cache_state.hh"
#include "kv/model/torch_guard.hh"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cstring>
#include <numeric>

namespace kv {
namespace {

void check_layer(const KvCache::State& state, std::int64_t layer) {
  if (layer < 0 || layer >= static_cast<std::int64_t>(state.layers.size())) {
    fail_usage("-: layer {}: the model has {}", layer, state.layers.size());
  }
}

void check_rows(const KvCache::State& state, std::int64_t layer, std::int64_t first_slot,
                std::int64_t count) {
  check_layer(state, layer);
  if (!state.layers[static_cast<std::size_t>(layer)].keys.defined()) {
    fail_usage("-: layer {} of the cache is not open", layer);
  }
  if (first_slot < 0 || count < 0 || first_slot > state.size || state.size - first_slot < count) {
    fail_usage("-: slots {} to {}: the cache holds {}", first_slot, first_slot + count,
               state.size.load());
  }
}

}  // namespace

KvCache::KvCache(std::unique_ptr<State> state) : state_(std::move(state)) {}
KvCache::KvCache(KvCache&&) noexcept = default;
KvCache& KvCache::operator=(KvCache&&) noexcept = default;
KvCache::~KvCache() = default;

std::int64_t KvCache::size() const { return state_->size; }
std::int64_t KvCache::capacity() const { return state_->capacity; }
std::int64_t KvCache::layer_count() const {
  return static_cast<std::int64_t>(state_->layers.size());
}
const LayerGeometry& KvCache::geometry(std::int64_t layer) const {
  check_layer(*state_, layer);
  return state_->geometry[static_cast<std::size_t>(layer)];
}
std::span<const std::int32_t> KvCache::positions() const {
  return std::span(state_->positions).first(static_cast<std::size_t>(state_->size));
}
std::int64_t KvCache::next_position() const {
  return state_->size == 0 ? 0 : std::ranges::max(positions()) + 1;
}
bool KvCache::keeps_unrotated_keys() const { return state_->keeps_raw; }

void KvCache::open_layer(std::int64_t layer) {
  check_layer(*state_, layer);
  inferring([&] { state_->allocate(layer); });
}

void KvCache::close_layer(std::int64_t layer) {
  check_layer(*state_, layer);
  LayerStore& store = state_->layers[static_cast<std::size_t>(layer)];
  store.keys = store.values = store.raw_keys = at::Tensor();
}

std::int64_t KvCache::extend(std::span<const std::int32_t> positions) {
  const std::int64_t first = state_->size;
  const auto count = static_cast<std::int64_t>(positions.size());
  if (state_->capacity - first < count) {
    fail_usage("-: {} more tokens do not fit a cache of {} that holds {}", count, state_->capacity,
               first);
  }
  for (const std::int32_t position : positions) {
    if (position < 0 || position >= kPositionLimit) {
      fail_usage("-: position {}: must be from 0 to {}", position, kPositionLimit - 1);
    }
  }
  if (count > 0) inferring([&] { state_->set_positions(first, positions); });
  return first;
}

std::int64_t KvCache::extend(std::int64_t first_position, std::int64_t count) {
  if (first_position < 0 || count < 0 || first_position > kPositionLimit ||
      kPositionLimit - first_position < count) {
    fail_usage("-: positions {} to {}: must be from 0 to {}", first_position,
               first_position + count, kPositionLimit - 1);
  }
  std::vector<std::int32_t> positions(static_cast<std::size_t>(count));
  std::iota(positions.begin(), positions.end(), static_cast<std::int32_t>(first_position));
  return extend(positions);
}

void KvCache::truncate(std::int64_t size) {
  if (size < 0 || size > state_->size) {
    fail_usage("-: truncation to {}: the cache holds {}", size, state_->size.load());
  }
  state_->resize(size);
}

void KvCache::load(std::int64_t layer, CachePart part, std::int64_t first_slot,
                   const TensorView& rows) {
  check_rows(*state_, layer, first_slot, rows.shape[0]);
  const LayerGeometry& geometry = state_->geometry[static_cast<std::size_t>(layer)];
  const std::int64_t dim = part == CachePart::kKeys ? geometry.k_dim : geometry.v_dim;
  if (rows.shape[1] != geometry.kv_heads || rows.shape[2] != dim ||
      rows.bytes.size() != static_cast<std::size_t>(rows.shape[0]) * rows.row_bytes()) {
    fail_input("-: layer {}: rows of {} x {}, where the model has {} x {}", layer, rows.shape[1],
               rows.shape[2], geometry.kv_heads, dim);
  }
  inferring([&] {
    const std::vector<std::int64_t> shape(rows.shape.begin(), rows.shape.end());
    at::Tensor values;
    if (rows.dtype == dtype_of(state_->type)) {
      values = at::from_blob(const_cast<std::byte*>(rows.bytes.data()), shape,
                             at::TensorOptions(state_->type));
    } else {
      values = at::empty(shape, at::TensorOptions(state_->type));
      convert(rows.bytes, rows.dtype,
              {static_cast<std::byte*>(values.mutable_data_ptr()), values.nbytes()},
              dtype_of(state_->type));
    }
    std::vector<std::int64_t> slots(static_cast<std::size_t>(rows.shape[0]));
    std::iota(slots.begin(), slots.end(), first_slot);
    if (part == CachePart::kKeys) {
      state_->store_keys(layer, slots, values.to(state_->device));
    } else {
      state_->store_values(layer, slots, values.to(state_->device));
    }
  });
}

void KvCache::save(std::int64_t layer, CachePart part, std::int64_t first_slot, std::int64_t count,
                   DType dtype, std::span<std::byte> out) const {
  check_rows(*state_, layer, first_slot, count);
  const LayerGeometry& geometry = state_->geometry[static_cast<std::size_t>(layer)];
  const std::int64_t dim = part == CachePart::kKeys ? geometry.k_dim : geometry.v_dim;
  if (out.size() !=
      static_cast<std::size_t>(count * geometry.kv_heads * dim) * dtype_size_bytes(dtype)) {
    fail_usage("-: {} bytes do not hold {} rows of layer {}", out.size(), count, layer);
  }
  inferring([&] {
    at::Tensor rows;
    if (part == CachePart::kValues) {
      rows = state_->values_of(layer, first_slot, count);
    } else {
      const at::Tensor& raw = state_->layers[static_cast<std::size_t>(layer)].raw_keys;
      if (!raw.defined()) fail_usage("-: this cache does not keep its keys un-rotated");
      rows = raw.narrow(0, first_slot, count);
    }
    rows = rows.to(at::kCPU).contiguous();
    const ByteView bytes(static_cast<const std::byte*>(rows.const_data_ptr()), rows.nbytes());
    if (dtype == dtype_of(state_->type)) {
      std::ranges::copy(bytes, out.begin());
    } else {
      convert(bytes, dtype_of(state_->type), out, dtype);
    }
  });
}

}  // namespace kv
