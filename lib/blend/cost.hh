#pragma once
// What computing rows costs.

#include "kv/model/model.hh"

#include <cstdint>
#include <span>

namespace kv {

// Multiplications and additions of projecting a row to queries, keys and values.
double projection_flops(const ModelConfig& config, const LayerGeometry& layer);
// Of rows at these slots through `layer`: of products with weights and of attention to all slots
// before them.
double layer_flops(const ModelConfig& config, std::int64_t layer,
                   std::span<const std::int64_t> slots);

// Seconds a row takes through a layer in a prefill of these tokens, over all layers: measured, once
// for each kind of layer.
double measured_row_s(const Model& model, std::span<const std::int32_t> ids);

}  // namespace kv
