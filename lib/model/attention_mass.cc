#include "kv/model/model_state.hh"

#include <ATen/TensorOperators.h>
#include <ATen/ops/bitwise_or.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <limits>

namespace kv {

std::vector<float> Model::attention_mass(std::int64_t layer, const at::Tensor& hidden,
                                         std::span<const std::int64_t> slots,
                                         const KvCache& of) const {
  KvCache::State& cache = *of.state_;
  const LayerCall call = state_->call(layer, hidden, slots, cache);
  const LayerStore& store = cache.layers[static_cast<std::size_t>(layer)];
  if (cache.tiled && !store.raw_keys.defined()) {
    fail_usage("-: this cache does not keep its keys un-rotated");
  }
  return inferring([&] {
    const std::int64_t size = cache.size, heads = call.weights.geometry.kv_heads;
    const auto rows = static_cast<std::int64_t>(slots.size());
    const std::int64_t group = state_->config.query_heads / heads;
    const RopeRows& rope = cache.rope_of(layer);
    const at::Tensor index =
        at::from_blob(const_cast<std::int64_t*>(slots.data()), {rows}, at::TensorOptions(at::kLong))
            .to(cache.device);
    const at::Tensor queries =
        rotated(plain_queries(state_->config, call.weights, hidden, cache.type),
                rope.cos.index_select(0, index), rope.sin.index_select(0, index));
    const at::Tensor keys = cache.tiled
                                ? rotated(store.raw_keys.narrow(0, 0, size),
                                          rope.cos.narrow(0, 0, size), rope.sin.narrow(0, 0, size))
                                : store.keys.narrow(0, 0, size);
    const at::Tensor positions =
        at::from_blob(cache.positions.data(), {size}, at::TensorOptions(at::kInt)).to(cache.device);
    const at::Tensor row_positions = positions.index_select(0, index).unsqueeze(1);
    at::Tensor unseen = positions > row_positions;  // [rows][slots]
    if (store.window > 0)
      unseen = at::bitwise_or(unseen, positions <= row_positions - store.window);
    at::Tensor mass = at::zeros({size}, at::TensorOptions(at::kFloat).device(cache.device));
    const double scale = 1.0 / std::sqrt(call.config.score_scalar(call.weights.geometry));
    for (std::int64_t head = 0; head < heads; ++head) {
      const at::Tensor of_head = queries.narrow(1, head * group, group).transpose(0, 1);
      const at::Tensor scores =
          at::matmul(of_head.to(at::kFloat), keys.select(1, head).to(at::kFloat).t()) * scale;
      mass += at::softmax(scores.masked_fill(unseen, -std::numeric_limits<float>::infinity()), -1)
                  .sum(at::IntArrayRef({0, 1}));
    }
    return floats_of(mass);
  });
}

}  // namespace kv
