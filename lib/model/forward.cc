// What a model computes: rows through layers, a layer at a time.

#include "kv/model/model_state.hh"

#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <numeric>

namespace kv {
namespace {

// Before the last layer: fewer are cheaper than products of another shape, which oneDNN compiles
// when it first sees them.
constexpr std::int64_t kRowsWorthDropping = 64;

}  // namespace

at::Tensor Model::embed(std::span<const std::int32_t> ids) const {
  return inferring(
      [&] { return embedding_rows(state_->checkpoint, ids).to(state_->placement.device); });
}

void Model::run_layer(std::int64_t layer, at::Tensor& hidden, std::span<const std::int64_t> slots,
                      KvCache& cache) const {
  state_->run(state_->call(layer, hidden, slots, *cache.state_), hidden);
}

void Model::write_keys_values(std::int64_t layer, const at::Tensor& hidden,
                              std::span<const std::int64_t> slots, KvCache& cache) const {
  state_->write_keys_values(state_->call(layer, hidden, slots, *cache.state_), hidden);
}

at::Tensor Model::queries(std::int64_t layer, const at::Tensor& hidden) const {
  if (layer < 0 || layer >= static_cast<std::int64_t>(state_->layers.size())) {
    fail_usage("-: layer {}: the model has {}", layer, state_->layers.size());
  }
  return inferring([&] {
    return plain_queries(state_->config, state_->layers[static_cast<std::size_t>(layer)], hidden,
                         state_->placement.type);
  });
}

at::Tensor Model::logits(const at::Tensor& hidden) const {
  return guarded([&] {
    const Linear& head = state_->output_head();
    const c10::InferenceMode guard;
    const at::Tensor normed = plain_norm(hidden, state_->final_norm, state_->config.rms_epsilon);
    return head.to_f32(normed.to(state_->placement.type));
  });
}

at::Tensor Model::hidden_from(std::span<const float> rows) const {
  const std::int64_t width = state_->config.hidden;
  const auto count = static_cast<std::int64_t>(rows.size()) / width;
  if (count * width != static_cast<std::int64_t>(rows.size())) {
    fail_usage("-: {} values are not rows of {}", rows.size(), width);
  }
  return inferring([&] {
    return at::from_blob(const_cast<float*>(rows.data()), {count, width},
                         at::TensorOptions(at::kFloat))
        .to(state_->placement.device, at::kFloat, false, true);
  });
}

std::vector<float> Model::floats_of(const at::Tensor& tensor) {
  return inferring([&] {
    const at::Tensor host = tensor.to(at::kCPU, at::kFloat).contiguous();
    const float* values = host.const_data_ptr<float>();
    return std::vector<float>(values, values + host.numel());
  });
}

ForwardResult Model::forward(std::span<const std::int32_t> ids, KvCache& cache,
                             const ForwardOptions& options) const {
  if (options.block < 1) fail_usage("-: blocks of {} rows", options.block);
  const auto count = static_cast<std::int64_t>(ids.size());
  const auto last = static_cast<std::int64_t>(state_->layers.size()) - 1;
  const std::int64_t position =
      options.first_position < 0 ? cache.next_position() : options.first_position;
  ForwardResult result;
  result.hidden.resize(options.hidden_layers.size());
  std::optional<ImportanceMeter> meter;
  if (options.importance) meter.emplace(state_->config, *cache.state_, count);
  const auto keep = [&](std::vector<float>& rows, const at::Tensor& tensor) {
    const std::vector<float> added = floats_of(tensor);
    rows.insert(rows.end(), added.begin(), added.end());
  };
  for (std::int64_t done = 0; done < count; done += options.block) {
    const std::int64_t rows = std::min(options.block, count - done);
    std::vector<std::int64_t> slots(static_cast<std::size_t>(rows));
    std::iota(slots.begin(), slots.end(), cache.extend(position + done, rows));
    if (meter) meter->begin_block(slots.front(), rows);
    at::Tensor hidden =
        embed(ids.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(rows)));
    // Of the last layer's output only the rows whose logits are asked for are needed.
    const std::int64_t wanted = options.logits == LogitRows::kAll                            ? rows
                                : options.logits == LogitRows::kLast && done + rows == count ? 1
                                                                                             : 0;
    for (std::int64_t layer = 0; layer <= last; ++layer) {
      if (options.before_layer) options.before_layer(layer);
      for (std::size_t i = 0; i < options.hidden_layers.size(); ++i) {
        if (options.hidden_layers[i] == layer) keep(result.hidden[i], hidden);
      }
      LayerCall call = state_->call(layer, hidden, slots, *cache.state_);
      call.importance = meter ? &*meter : nullptr;
      if (layer == last && (wanted == 0 || rows - wanted >= kRowsWorthDropping)) {
        state_->write_keys_values(call, hidden);
        call.importance = nullptr;
        hidden = hidden.narrow(0, rows - wanted, wanted);
        call.slots = call.slots.last(static_cast<std::size_t>(wanted));
      }
      state_->run(call, hidden);
    }
    if (wanted > 0) keep(result.logits, logits(hidden.narrow(0, hidden.size(0) - wanted, wanted)));
    if (options.on_tokens) options.on_tokens(rows);
  }
  if (meter) result.importance = meter->weights();
  return result;
}

}  // namespace kv
