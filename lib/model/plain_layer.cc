#include "kv/model/layer.hh"

#include <ATen/TensorOperators.h>
#include <ATen/ops/bitwise_and.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/silu.h>

#include <cmath>

namespace kv {
namespace {

struct Projected {
  at::Tensor queries, positions, index;
};

Projected project(const LayerCall& call, const at::Tensor& hidden) {
  const LayerGeometry& geometry = call.weights.geometry;
  KvCache::State& cache = call.cache;
  const at::Tensor qkv = call.weights.qkv(
      plain_norm(hidden, call.weights.input_norm, call.config.rms_epsilon).to(cache.type));
  const std::int64_t q = call.config.query_heads * geometry.k_dim;
  const std::int64_t k = geometry.kv_heads * geometry.k_dim;
  at::Tensor queries = qkv.narrow(1, 0, q).unflatten(1, {call.config.query_heads, geometry.k_dim});
  at::Tensor keys = qkv.narrow(1, q, k).unflatten(1, {geometry.kv_heads, geometry.k_dim});
  if (call.config.qk_norm) {
    const double epsilon = call.config.rms_epsilon;
    queries = plain_norm(queries.to(at::kFloat), call.weights.query_norm, epsilon).to(cache.type);
    keys = plain_norm(keys.to(at::kFloat), call.weights.key_norm, epsilon).to(cache.type);
  }
  cache.store_keys(call.layer, call.slots, keys);
  cache.store_values(call.layer, call.slots,
                     qkv.narrow(1, q + k, geometry.kv_heads * geometry.v_dim)
                         .unflatten(1, {geometry.kv_heads, geometry.v_dim}));
  const at::Tensor index =
      at::from_blob(const_cast<std::int64_t*>(call.slots.data()),
                    {static_cast<std::int64_t>(call.slots.size())}, at::TensorOptions(at::kLong))
          .to(cache.device);
  const RopeRows& rope = cache.rope_of(call.layer);
  return {rotated(queries, rope.cos.index_select(0, index), rope.sin.index_select(0, index)),
          cache.device_positions.index_select(0, index), index};
}

at::Tensor attend(const LayerCall& call, const Projected& rows) {
  const LayerGeometry& geometry = call.weights.geometry;
  const LayerStore& store = call.cache.layers[static_cast<std::size_t>(call.layer)];
  const auto heads_first = [&](const at::Tensor& t) { return t.transpose(0, 1).unsqueeze(0); };
  const at::Tensor key_positions = call.cache.device_positions.narrow(0, 0, call.cache.size);
  const at::Tensor row_positions = rows.positions.unsqueeze(1);
  at::Tensor visible = key_positions <= row_positions;
  if (store.window > 0) {
    visible = at::bitwise_and(visible, key_positions > row_positions - store.window);
  }
  const at::Tensor out = at::scaled_dot_product_attention(
      heads_first(rows.queries), heads_first(store.keys.narrow(0, 0, call.cache.size)),
      heads_first(store.values.narrow(0, 0, call.cache.size)), visible, 0.0, false,
      1.0 / std::sqrt(call.config.score_scalar(geometry)),
      geometry.kv_heads != call.config.query_heads);
  return call.weights.output(out.squeeze(0).transpose(0, 1).flatten(1));
}

void measure(const LayerCall& call, const Projected& rows) {
  if (call.importance == nullptr || call.importance->rows().empty()) return;
  call.importance->add_plain(call.layer, rows.queries.index_select(0, call.importance->index()));
}

}  // namespace

at::Tensor plain_norm(const at::Tensor& rows, const at::Tensor& weight, double epsilon) {
  return rows * at::rsqrt(rows.square().mean(-1, true) + epsilon) * weight;
}

at::Tensor plain_activation(Activation activation, const at::Tensor& gate) {
  return activation == Activation::kGeluTanh ? at::gelu(gate, "tanh") : at::silu(gate);
}

at::Tensor plain_post_norm(const at::Tensor& rows, const at::Tensor& weight, double epsilon) {
  const at::Tensor all = rows.to(at::kFloat);
  return weight.defined() ? plain_norm(all, weight, epsilon) : all;
}

at::Tensor plain_queries(const ModelConfig& config, const LayerWeights& weights,
                         const at::Tensor& hidden, at::ScalarType type) {
  const std::int64_t dim = weights.geometry.k_dim;
  const at::Tensor queries =
      weights.qkv(plain_norm(hidden, weights.input_norm, config.rms_epsilon).to(type))
          .narrow(1, 0, config.query_heads * dim)
          .unflatten(1, {config.query_heads, dim})
          .to(at::kFloat);
  return config.qk_norm ? plain_norm(queries, weights.query_norm, config.rms_epsilon) : queries;
}

void plain_layer(const LayerCall& call, at::Tensor& hidden) {
  const Projected rows = project(call, hidden);
  measure(call, rows);
  const double epsilon = call.config.rms_epsilon;
  hidden = hidden + plain_post_norm(attend(call, rows), call.weights.attention_post_norm, epsilon);
  const at::Tensor normed = plain_norm(hidden, call.weights.mlp_norm, epsilon).to(call.cache.type);
  const at::Tensor gate_up = call.weights.gate_up(normed);
  const std::int64_t inner = call.config.intermediate;
  const at::Tensor act = plain_activation(call.weights.activation, gate_up.narrow(1, 0, inner)) *
                         gate_up.narrow(1, inner, inner);
  hidden = hidden + plain_post_norm(call.weights.down(act), call.weights.mlp_post_norm, epsilon);
}

void plain_keys_values(const LayerCall& call, const at::Tensor& hidden) {
  measure(call, project(call, hidden));
}

}  // namespace kv
