#include "kv/model/model.hh"

#include "kv/base/error.hh"
#include "kv/kernels/cpu_features.hh"
#include "kv/model/attention.hh"
#include "kv/model/dtype.hh"
#include "kv/model/model_state.hh"
#include "kv/model/placement.hh"
#include "kv/model/torch_guard.hh"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

namespace kv {
namespace {

bool fused_supported(at::ScalarType type, at::Device device) {
  if (!device.is_cpu()) return false;
  if (type == at::kFloat) return attention_supported<float>();
  return type == at::kBFloat16 && attention_supported<c10::BFloat16>();
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

Model::Model(std::unique_ptr<State> state) : state_(std::move(state)) {}
Model::~Model() = default;

std::unique_ptr<Model> Model::load(const Checkpoint& checkpoint, const ModelOptions& options) {
  return guarded([&] {
    use_threads(options.threads);
    const at::NoGradGuard no_grad;
    auto state = std::unique_ptr<State>(
        new State{checkpoint, checkpoint.config(), options.with_head, {}, false, {}, {}, {}});
    const at::Device device = choose_device(options.device);
    const at::ScalarType type = choose_type(options.compute, device);
    state->fused = !options.plain_ops && fused_supported(type, device);
    state->placement = {type, device, state->fused};
    // In bf16 without AMX oneDNN's products are as good.
    state->placement.by_kernels =
        state->fused && (type == at::kFloat || product_target() == ProductTarget::kAmx);
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
    KvCache cache(std::make_unique<KvCache::State>(
        state_->config.layers, options.capacity, options.keep_unrotated_keys,
        state_->placement.type, state_->placement.device, state_->fused));
    for (std::int64_t layer = 0; !options.layers_on_demand && layer < cache.layer_count();
         ++layer) {
      cache.open_layer(layer);
    }
    return cache;
  });
}

}  // namespace kv
