#include "kv/tune/lora_model.hh"

#include "kv/base/error.hh"
#include "kv/model/kv_cache_state.hh"
#include "kv/model/layer.hh"
#include "kv/model/placement.hh"
#include "kv/model/rope.hh"
#include "kv/model/torch_guard.hh"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bitwise_and.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <random>

namespace kv {
namespace {

constexpr std::array<std::string_view, 7> kModules = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};

std::string_view leaf(std::string_view module) { return module.substr(module.rfind('.') + 1); }

void complete(AdapterConfig& config, const Checkpoint& checkpoint) {
  if (config.rank < 1) fail_usage("--rank {}: must be 1 or more", config.rank);
  if (config.targets.empty()) {
    for (const std::string_view module : kModules) config.targets.emplace_back(leaf(module));
  }
  std::ranges::sort(config.targets);
  for (const std::string& target : config.targets) {
    const auto named = [&](std::string_view module) { return leaf(module) == target; };
    if (std::ranges::none_of(kModules, named)) {
      fail_usage(
          "--targets: '{}' is no projection; there are q_proj, k_proj, v_proj, o_proj, "
          "gate_proj, up_proj and down_proj",
          target);
    }
  }
  for (const std::int64_t layer : config.layers) {
    if (layer < 0 || layer >= std::ssize(checkpoint.config().layers)) {
      fail_usage("--layers: {}: the model's layers are 0 to {}", layer,
                 checkpoint.config().layers.size() - 1);
    }
  }
  config.base_name = checkpoint.config().name;
}

// Not LibTorch's generator: the same on every machine, and whatever its version.
at::Tensor uniform(std::int64_t rows, std::int64_t columns, std::mt19937_64& random) {
  at::Tensor out = at::empty({rows, columns}, at::TensorOptions(at::kFloat));
  const double bound = 1 / std::sqrt(static_cast<double>(columns));
  float* values = out.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    const double share = static_cast<double>(random() >> 11) * 0x1p-53;
    values[i] = static_cast<float>(bound * (2 * share - 1));
  }
  return out;
}

}  // namespace

std::span<const std::string_view> lora_modules() { return kModules; }

struct LoraModel::Rows {
  struct Angles {
    Rope rope;
    std::int64_t dim;
    RopeAngles angles;
  };
  std::vector<std::int32_t> ids, positions;
  std::vector<std::int64_t> begins;  // of each text, and the end
  std::vector<Angles> angles;

  void add(std::span<const std::int32_t> text) {
    if (begins.empty()) begins.push_back(0);
    for (std::size_t i = 0; i < text.size(); ++i) {
      ids.push_back(text[i]);
      positions.push_back(static_cast<std::int32_t>(i));
    }
    begins.push_back(std::ssize(ids));
  }
  void turn(const std::vector<LayerGeometry>& layers, at::Device device) {
    for (const LayerGeometry& layer : layers) {
      const auto same = [&](const Angles& each) {
        return each.rope == layer.rope && each.dim == layer.k_dim;
      };
      if (std::ranges::any_of(angles, same)) continue;
      const RopeAngles made =
          rope_angles(layer.rope, inverse_frequencies(layer.rope, layer.k_dim), positions);
      angles.push_back({layer.rope, layer.k_dim, {made.cos.to(device), made.sin.to(device)}});
    }
  }
  const RopeAngles& of(const LayerGeometry& layer) const {
    return std::ranges::find_if(angles,
                                [&](const Angles& each) {
                                  return each.rope == layer.rope && each.dim == layer.k_dim;
                                })
        ->angles;
  }
};

LoraModel::LoraModel(const Checkpoint& checkpoint, const ModelOptions& options,
                     AdapterConfig config, std::uint64_t seed)
    : checkpoint_(checkpoint), config_(std::move(config)) {
  complete(config_, checkpoint);
  guarded([&] {
    use_threads(options.threads);
    const at::Device device = choose_device(options.device);
    placement_ = {choose_type(options.compute, device), device, /*packed=*/false,
                  /*by_kernels=*/false};
    const at::NoGradGuard no_grad;
    const ModelConfig& model = checkpoint.config();
    std::mt19937_64 random(seed);
    for (std::int64_t i = 0; i < std::ssize(model.layers); ++i) {
      layers_.push_back(load_layer(checkpoint, i, placement_));
      for (const std::string_view module : kModules) {
        const std::string name = fmt::format("model.layers.{}.{}", i, module);
        if (!config_.covers(name)) continue;
        const std::vector<std::int64_t>& shape = checkpoint.weight(name + ".weight").shape;
        by_module_[name] = pairs_.size();
        pairs_.push_back(
            {name, uniform(config_.rank, shape[1], random).to(device),
             at::zeros({shape[0], config_.rank}, at::TensorOptions(at::kFloat)).to(device)});
        pairs_.back().a.requires_grad_();
        pairs_.back().b.requires_grad_();
      }
    }
    final_norm_ = load_norm(checkpoint, "model.norm", model.hidden, device);
    const bool own = !model.tied_head && checkpoint.has_weight("lm_head.weight");
    head_ = Linear(checkpoint, {{own ? "lm_head" : "model.embed_tokens", model.vocab}},
                   model.hidden, false, placement_);
  });
}

std::int64_t LoraModel::parameters() const {
  std::int64_t count = 0;
  for (const LoraPair& pair : pairs_) count += pair.a.numel() + pair.b.numel();
  return count;
}

at::Tensor LoraModel::adapted(std::size_t layer, const char* module, const at::Tensor& in,
                              const at::Tensor& out) const {
  const auto found = by_module_.find(fmt::format("model.layers.{}.{}", layer, module));
  if (found == by_module_.end()) return out;
  const LoraPair& pair = pairs_[found->second];
  const at::Tensor low = at::linear(in.to(at::kFloat), pair.a);
  return out + (at::linear(low, pair.b) * config_.scale(config_.rank)).to(out.scalar_type());
}

at::Tensor LoraModel::attend(std::size_t index, const Rows& rows, const at::Tensor& queries,
                             const at::Tensor& keys, const at::Tensor& values) const {
  const LayerGeometry& geometry = layers_[index].geometry;
  const std::int64_t shared = checkpoint_.config().query_heads / geometry.kv_heads;
  std::vector<at::Tensor> outs;
  for (std::size_t t = 0; t + 1 < rows.begins.size(); ++t) {
    const std::int64_t first = rows.begins[t], count = rows.begins[t + 1] - first;
    const auto heads_first = [&](const at::Tensor& tensor) {
      return tensor.narrow(0, first, count).transpose(0, 1).unsqueeze(0);
    };
    std::optional<at::Tensor> visible;
    if (geometry.window > 0 && geometry.window < count) {
      const at::Tensor at = at::arange(count, queries.options().dtype(at::kLong));
      const at::Tensor row = at.unsqueeze(1);
      visible = at::bitwise_and(at <= row, at > row - geometry.window);
    }
    const at::Tensor out = at::scaled_dot_product_attention(
        heads_first(queries), heads_first(keys).repeat_interleave(shared, 1),
        heads_first(values).repeat_interleave(shared, 1), visible, 0.0, !visible,
        1.0 / std::sqrt(checkpoint_.config().score_scalar(geometry)));
    outs.push_back(out.squeeze(0).transpose(0, 1).flatten(1));
  }
  return outs.size() == 1 ? outs.front() : at::cat(outs);
}

void LoraModel::layer(std::size_t index, const Rows& rows, at::Tensor& hidden) const {
  const ModelConfig& config = checkpoint_.config();
  const LayerWeights& weights = layers_[index];
  const LayerGeometry& geometry = weights.geometry;
  const double epsilon = config.rms_epsilon;
  const at::ScalarType type = placement_.type;
  const at::Tensor in = plain_norm(hidden, weights.input_norm, epsilon).to(type);
  const at::Tensor qkv = weights.qkv(in);
  std::int64_t column = 0;
  const auto part = [&](const char* module, std::int64_t heads, std::int64_t dim) {
    const at::Tensor columns = qkv.narrow(1, column, heads * dim);
    column += heads * dim;
    return adapted(index, module, in, columns).unflatten(1, {heads, dim});
  };
  at::Tensor queries = part("self_attn.q_proj", config.query_heads, geometry.k_dim);
  at::Tensor keys = part("self_attn.k_proj", geometry.kv_heads, geometry.k_dim);
  const at::Tensor values = part("self_attn.v_proj", geometry.kv_heads, geometry.v_dim);
  if (config.qk_norm) {
    queries = plain_norm(queries.to(at::kFloat), weights.query_norm, epsilon).to(type);
    keys = plain_norm(keys.to(at::kFloat), weights.key_norm, epsilon).to(type);
  }
  const RopeAngles& angles = rows.of(geometry);
  const at::Tensor attended = attend(index, rows, rotated(queries, angles.cos, angles.sin).to(type),
                                     rotated(keys, angles.cos, angles.sin).to(type), values);
  hidden = hidden +
           plain_post_norm(adapted(index, "self_attn.o_proj", attended, weights.output(attended)),
                           weights.attention_post_norm, epsilon);
  const at::Tensor normed = plain_norm(hidden, weights.mlp_norm, epsilon).to(type);
  const at::Tensor gate_up = weights.gate_up(normed);
  const std::int64_t inner = config.intermediate;
  const at::Tensor gate = adapted(index, "mlp.gate_proj", normed, gate_up.narrow(1, 0, inner));
  const at::Tensor up = adapted(index, "mlp.up_proj", normed, gate_up.narrow(1, inner, inner));
  const at::Tensor acted = plain_activation(weights.activation, gate) * up;
  hidden = hidden + plain_post_norm(adapted(index, "mlp.down_proj", acted, weights.down(acted)),
                                    weights.mlp_post_norm, epsilon);
}

at::Tensor LoraModel::hidden(const Rows& rows) const {
  at::Tensor hidden = embedding_rows(checkpoint_, rows.ids).to(placement_.device);
  for (std::size_t i = 0; i < layers_.size(); ++i) layer(i, rows, hidden);
  return hidden;
}

at::Tensor LoraModel::scores(const at::Tensor& hidden) const {
  const at::Tensor normed = plain_norm(hidden, final_norm_, checkpoint_.config().rms_epsilon);
  return head_.to_f32(normed.to(placement_.type));
}

at::Tensor LoraModel::loss(std::span<const TrainingText* const> texts) const {
  return guarded([&] {
    Rows rows;
    // Rows whose next token is a target, and these tokens: the head is a fifth of a small model.
    std::vector<std::int64_t> asked, targets;
    for (const TrainingText* text : texts) {
      const std::int64_t first = std::ssize(rows.ids);
      for (std::int64_t i = text->prompt; i < std::ssize(text->ids); ++i) {
        asked.push_back(first + i - 1);
        targets.push_back(text->ids[static_cast<std::size_t>(i)]);
      }
      rows.add(std::span(text->ids).first(text->ids.size() - 1));
    }
    rows.turn(checkpoint_.config().layers, placement_.device);
    const auto index = [&](std::vector<std::int64_t>& values) {
      return at::from_blob(values.data(), {std::ssize(values)}, at::TensorOptions(at::kLong))
          .to(placement_.device, at::kLong, false, true);
    };
    const at::Tensor logits = scores(hidden(rows).index_select(0, index(asked)));
    return -at::log_softmax(logits, 1).gather(1, index(targets).unsqueeze(1)).sum();
  });
}

at::Tensor LoraModel::logits(std::span<const std::int32_t> ids) const {
  return guarded([&] {
    const at::NoGradGuard no_grad;
    Rows rows;
    rows.add(ids);
    rows.turn(checkpoint_.config().layers, placement_.device);
    return scores(hidden(rows));
  });
}

}  // namespace kv
