#pragma once
// What a model keeps, and one layer's call as the layers take it. Private to lib/model.

#include "kv/base/error.hh"
#include "kv/model/kv_cache_state.hh"
#include "kv/model/layer.hh"
#include "kv/model/model.hh"
#include "kv/model/torch_guard.hh"
#include "kv/model/weights.hh"

#include <ATen/core/grad_mode.h>

#include <optional>
#include <span>
#include <string>
#include <vector>

namespace kv {

struct Model::State {
  const Checkpoint& checkpoint;
  const ModelConfig& config;
  bool with_head;
  Placement placement;
  bool fused = false;
  std::vector<LayerWeights> layers;
  at::Tensor final_norm;
  std::optional<Linear> head;  // read when first asked for: prefilling a document needs none

  const Linear& output_head() {
    if (!head) {
      const at::NoGradGuard no_grad;
      const bool own = !config.tied_head && checkpoint.has_weight("lm_head.weight");
      const std::string name = own ? "lm_head" : "model.embed_tokens";
      head.emplace(checkpoint, std::vector<Part>{{name, config.vocab}}, config.hidden, false,
                   placement);
    }
    return *head;
  }

  LayerCall call(std::int64_t layer, const at::Tensor& hidden, std::span<const std::int64_t> slots,
                 KvCache::State& cache) const {
    if (layers.empty()) throw std::logic_error("Model: no weights; load_weights() reads them");
    if (layer < 0 || layer >= static_cast<std::int64_t>(layers.size())) {
      fail_usage("-: layer {}: the model has {}", layer, layers.size());
    }
    if (hidden.dim() != 2 || hidden.size(0) != static_cast<std::int64_t>(slots.size()) ||
        hidden.size(1) != config.hidden || hidden.scalar_type() != at::kFloat) {
      fail_usage("-: layer {}: hidden states must be f32, one row of {} a slot", layer,
                 config.hidden);
    }
    if (cache.tiled != fused || cache.type != placement.type || cache.geometry != config.layers) {
      fail_usage("-: layer {}: the cache was made for another model", layer);
    }
    if (!cache.layers[static_cast<std::size_t>(layer)].keys.defined()) {
      fail_usage("-: layer {} of the cache is not open", layer);
    }
    for (const std::int64_t slot : slots) {
      if (slot < 0 || slot >= cache.size) {
        fail_usage("-: slot {}: the cache holds {}", slot, cache.size.load());
      }
    }
    return {config, layers[static_cast<std::size_t>(layer)], layer, slots, cache};
  }

  void run(const LayerCall& call, at::Tensor& hidden) const {
    if (call.slots.empty()) return;
    inferring([&] {
      if (!fused) {
        plain_layer(call, hidden);
        return;
      }
      hidden = hidden.contiguous();
      placement.type == at::kFloat ? fused_layer<float>(call, hidden)
                                   : fused_layer<c10::BFloat16>(call, hidden);
    });
  }

  void write_keys_values(const LayerCall& call, const at::Tensor& hidden) const {
    if (call.slots.empty()) return;
    inferring([&] {
      if (!fused) {
        plain_keys_values(call, hidden);
      } else if (placement.type == at::kFloat) {
        fused_keys_values<float>(call, hidden.contiguous());
      } else {
        fused_keys_values<c10::BFloat16>(call, hidden.contiguous());
      }
    });
  }
};

}  // namespace kv
