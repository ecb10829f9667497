#pragma once
// One transformer layer over some rows, twice: fused loops on the CPU, and LibTorch's operations
// for every device. Both replace `hidden` (f32 [rows][hidden]) by the layer's output.

#include "kv/model/importance.hh"
#include "kv/model/kv_cache_state.hh"
#include "kv/model/weights.hh"

#include <span>

namespace kv {

struct LayerCall {
  const ModelConfig& config;
  const LayerWeights& weights;
  std::int64_t layer;
  std::span<const std::int64_t> slots;  // distinct
  KvCache::State& cache;
  ImportanceMeter* importance = nullptr;  // told of its rows; the call's are then one block
};

// T: float or at::BFloat16; the cache is tiled.
template <typename T>
void fused_layer(const LayerCall& call, at::Tensor& hidden);
template <typename T>
void fused_keys_values(const LayerCall& call, const at::Tensor& hidden);
// rms norm into T
template <typename T>
at::Tensor fused_norm(const at::Tensor& hidden, const at::Tensor& weight, double epsilon);

void plain_layer(const LayerCall& call, at::Tensor& hidden);
void plain_keys_values(const LayerCall& call, const at::Tensor& hidden);
at::Tensor plain_queries(const ModelConfig& config, const LayerWeights& weights,
                         const at::Tensor& hidden, at::ScalarType type);
// of the MLP's gate
at::Tensor plain_activation(Activation activation, const at::Tensor& gate);
// `rows` as the layer adds them: normed by `weight`, if it is defined, in f32
at::Tensor plain_post_norm(const at::Tensor& rows, const at::Tensor& weight, double epsilon);
at::Tensor plain_norm(const at::Tensor& rows, const at::Tensor& weight, double epsilon);

}  // namespace kv
