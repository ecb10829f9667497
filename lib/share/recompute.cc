#include "recompute.hh"

#include "kv/model/torch_guard.hh"

#include <algorithm>
#include <numeric>

namespace kv {
namespace {

constexpr std::int64_t kBlock = 1024;

}  // namespace

void run_rows(const Model& model, std::int64_t layer, at::Tensor& rows, KvCache& cache,
              bool only_keys_values) {
  const std::int64_t count = rows.size(0);
  std::vector<std::int64_t> slots(static_cast<std::size_t>(std::min(kBlock, count)));
  for (std::int64_t done = 0; done < count; done += kBlock) {
    const std::int64_t size = std::min(kBlock, count - done);
    slots.resize(static_cast<std::size_t>(size));
    std::iota(slots.begin(), slots.end(), done);
    at::Tensor block = rows.narrow(0, done, size).contiguous();
    if (only_keys_values) {
      model.write_keys_values(layer, block, slots, cache);
      continue;
    }
    model.run_layer(layer, block, slots, cache);
    if (size == count) {
      rows = block;
    } else {
      inferring([&] { rows.narrow(0, done, size).copy_(block); });
    }
  }
}

at::Tensor hidden_at(const Model& model, std::span<const std::int32_t> ids, std::int64_t layer) {
  at::Tensor rows = model.embed(ids);
  KvCache cache = model.make_cache({.capacity = std::ssize(ids), .layers_on_demand = true});
  cache.extend(0, std::ssize(ids));
  for (std::int64_t i = 0; i < layer; ++i) {
    cache.open_layer(i);
    run_rows(model, i, rows, cache, false);
    cache.close_layer(i);
  }
  return rows;
}

void recompute(const Model& model, at::Tensor rows, const LayerGroup& group,
               const std::function<void(std::int64_t, const KvCache&)>& on_layer) {
  KvCache cache = model.make_cache(
      {.capacity = rows.size(0), .keep_unrotated_keys = true, .layers_on_demand = true});
  cache.extend(0, rows.size(0));
  for (std::int64_t layer = group.first; layer < group.end; ++layer) {
    cache.open_layer(layer);
    // Behind the last layer nobody asks for more than keys and values.
    run_rows(model, layer, rows, cache, layer + 1 == group.end);
    on_layer(layer, cache);
    cache.close_layer(layer);
  }
}

}  // namespace kv
