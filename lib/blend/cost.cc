#include "kv/blend/cost.hh"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <numeric>

namespace kv {

double projection_flops(const ModelConfig& config, const LayerGeometry& layer) {
  return 2.0 * static_cast<double>(config.hidden) *
         static_cast<double>(config.query_heads * layer.k_dim +
                             layer.kv_heads * (layer.k_dim + layer.v_dim));
}

double measured_row_s(const Model& model, std::span<const std::int32_t> ids) {
  const ModelConfig& config = model.config();
  const auto count = static_cast<std::int64_t>(ids.size());
  KvCache cache = model.make_cache({.capacity = count, .layers_on_demand = true});
  cache.extend(0, count);
  std::vector<std::int64_t> slots(ids.size());
  std::iota(slots.begin(), slots.end(), 0);
  std::map<std::int64_t, double> by_window;
  double sum = 0;
  for (std::int64_t layer = 0; layer < cache.layer_count(); ++layer) {
    const std::int64_t window = config.layers[static_cast<std::size_t>(layer)].window;
    if (!by_window.contains(window)) {
      cache.open_layer(layer);
      // The second time is what counts: some products are compiled when they are first seen.
      for (int i = 0; i < 2; ++i) {
        at::Tensor hidden = model.embed(ids);
        const auto began = std::chrono::steady_clock::now();
        model.run_layer(layer, hidden, slots, cache);
        by_window[window] =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
      }
      cache.close_layer(layer);
    }
    sum += by_window[window];
  }
  return sum / static_cast<double>(count * cache.layer_count());
}

double layer_flops(const ModelConfig& config, std::int64_t layer,
                   std::span<const std::int64_t> slots) {
  const LayerGeometry& geometry = config.layers[static_cast<std::size_t>(layer)];
  const auto heads = static_cast<double>(config.query_heads);
  double seen = 0;
  for (const std::int64_t slot : slots) {
    seen +=
        static_cast<double>(geometry.window > 0 ? std::min(slot + 1, geometry.window) : slot + 1);
  }
  const double row =
      projection_flops(config, geometry) + 2.0 * static_cast<double>(config.hidden) *
                                               (heads * static_cast<double>(geometry.v_dim) +
                                                3.0 * static_cast<double>(config.intermediate));
  return static_cast<double>(slots.size()) * row +
         2.0 * seen * heads * static_cast<double>(geometry.k_dim + geometry.v_dim);
}

}  // namespace kv
