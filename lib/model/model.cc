#include "kv/model/model.hh"

#include "kv/base/error.hh"
#include "kv/model/attention.hh"
#include "kv/model/dtype.hh"
#include "kv/model/layer.hh"
#include "kv/model/parallel.hh"
#include "kv/model/torch_guard.hh"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <malloc.h>

#include <algorithm>
#include <numeric>

namespace kv {
namespace {

// Before the last layer: fewer are cheaper than products of another shape, which oneDNN compiles
// when it first sees them.
constexpr std::int64_t kRowsWorthDropping = 64;

at::Device choose_device(Device wanted) {
  if (wanted == Device::kCpu) return at::kCPU;
  if (wanted == Device::kAuto && !cuda_visible()) return at::kCPU;
  try {
    return open_cuda();
  } catch (const Error&) {
    if (wanted == Device::kCuda) throw;
    return at::kCPU;
  }
}

at::ScalarType choose_type(Compute wanted, at::Device device) {
  switch (wanted) {
    case Compute::kF32:
      return at::kFloat;
    case Compute::kBF16:
      return at::kBFloat16;
    case Compute::kF16:
      return at::kHalf;
    case Compute::kAuto:
      break;
  }
  return device.is_cuda() || attention_supported<c10::BFloat16>() ? at::kBFloat16 : at::kFloat;
}

bool fused_supported(at::ScalarType type, at::Device device) {
  if (!device.is_cpu()) return false;
  if (type == at::kFloat) return attention_supported<float>();
  return type == at::kBFloat16 && attention_supported<c10::BFloat16>();
}

// A layer's intermediates come and go by the megabyte; given back to the system each time, they
// cost 9 % of a prefill in page faults. And what loading the weights took is memory for a cache.
void keep_freed_memory() {
#ifdef __GLIBC__
  ::mallopt(M_MMAP_MAX, 0);
  ::mallopt(M_TRIM_THRESHOLD, 128 << 20);
#endif
}

}  // namespace

Compute parse_compute(std::string_view name) {
  if (name == "auto") return Compute::kAuto;
  if (name == "f32") return Compute::kF32;
  if (name == "bf16") return Compute::kBF16;
  if (name == "f16") return Compute::kF16;
  fail_usage("-: compute type '{}': must be auto, f32, bf16 or f16", name);
}

Device parse_device(std::string_view name) {
  if (name == "auto") return Device::kAuto;
  if (name == "cpu") return Device::kCpu;
  if (name == "cuda") return Device::kCuda;
  fail_usage("-: device '{}': must be auto, cpu or cuda", name);
}

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

Model::Model(std::unique_ptr<State> state) : state_(std::move(state)) {}
Model::~Model() = default;

std::unique_ptr<Model> Model::load(const Checkpoint& checkpoint, const ModelOptions& options) {
  if (options.threads < 0) fail_usage("-: {} threads: must be 0 or more", options.threads);
  return guarded([&] {
    if (options.threads > 0) at::set_num_threads(options.threads);
    if (at::get_num_threads() > 1) share_cores();
    keep_freed_memory();
    const at::NoGradGuard no_grad;
    auto state = std::unique_ptr<State>(
        new State{checkpoint, checkpoint.config(), options.with_head, {}, false, {}, {}, {}});
    const at::Device device = choose_device(options.device);
    const at::ScalarType type = choose_type(options.compute, device);
    state->fused = !options.plain_ops && fused_supported(type, device);
    state->placement = {type, device, state->fused};
    // Without AMX oneDNN's products are as good.
    state->placement.by_kernels =
        state->fused && type == at::kBFloat16 && product_target() == ProductTarget::kAmx;
    const auto& table = checkpoint.weight("model.embed_tokens.weight").shape;
    if (table != std::vector{state->config.vocab, state->config.hidden}) {
      fail_input("{}: the embedding matrix is not {} x {}", checkpoint.path(), state->config.vocab,
                 state->config.hidden);
    }
    auto model = std::unique_ptr<Model>(new Model(std::move(state)));
    if (!options.weights_later) model->load_weights();
    return model;
  });
}

void Model::load_weights() {
  guarded([&] {
    const at::NoGradGuard no_grad;
    State& state = *state_;
    for (std::size_t i = 0; i < state.config.layers.size(); ++i) {
      state.layers.push_back(
          load_layer(state.checkpoint, static_cast<std::int64_t>(i), state.placement));
    }
    if (state.with_head) state.output_head();
    state.final_norm =
        load_norm(state.checkpoint, "model.norm", state.config.hidden, state.placement.device);
  });
}

const ModelConfig& Model::config() const { return state_->config; }
DType Model::compute() const { return dtype_of(state_->placement.type); }
std::string Model::device() const { return state_->placement.device.is_cuda() ? "cuda" : "cpu"; }

int Model::threads() const { return at::get_num_threads(); }

KvCache Model::make_cache(const CacheOptions& options) const {
  if (options.capacity < 0) fail_usage("-: a cache of {} tokens", options.capacity);
  return inferring([&] {
    return KvCache(std::make_unique<KvCache::State>(
        state_->config.layers, options.capacity, options.keep_unrotated_keys,
        state_->placement.type, state_->placement.device, state_->fused));
  });
}

at::Tensor Model::embed(std::span<const std::int32_t> ids) const {
  const WeightView& table = state_->checkpoint.weight("model.embed_tokens.weight");
  const std::int64_t width = state_->config.hidden, vocab = state_->config.vocab;
  return inferring([&] {
    at::Tensor rows =
        at::empty({static_cast<std::int64_t>(ids.size()), width}, at::TensorOptions(at::kFloat));
    float* out = rows.mutable_data_ptr<float>();
    for (const std::int32_t id : ids) {
      if (id < 0 || id >= vocab) {
        fail_input("{}: token id {}: the model has {}", state_->checkpoint.path(), id, vocab);
      }
      state_->checkpoint.read_f32(table, id * width, {out, static_cast<std::size_t>(width)});
      out += width;
    }
    return rows.to(state_->placement.device);
  });
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
