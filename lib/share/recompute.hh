#pragma once
// Layers of a text from what goes into the first of them. Private to the folder.

#include "kv/model/model.hh"
#include "kv/share/share_plan.hh"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>

namespace kv {

// Runs all rows of a text through one layer, in blocks, so that wide intermediates stay small.
// With `only_keys_values` the rows are left as they are.
void run_rows(const Model& model, std::int64_t layer, at::Tensor& rows, KvCache& cache,
              bool only_keys_values);

// E at `layer`'s input: [ids][hidden].
at::Tensor hidden_at(const Model& model, std::span<const std::int32_t> ids, std::int64_t layer);

// Keys and values of the group's layers, from its first layer's input: `on_layer` sees each in a
// cache that holds no other.
void recompute(const Model& model, at::Tensor rows, const LayerGroup& group,
               const std::function<void(std::int64_t, const KvCache&)>& on_layer);

}  // namespace kv
