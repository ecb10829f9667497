#include "kv/model/weights.hh"

#include "kv/base/error.hh"
#include "kv/model/parallel.hh"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linear.h>

#include <algorithm>
#include <numeric>

namespace kv {
namespace {

constexpr std::int64_t kChunkValues = 1 << 18;  // a megabyte of f32 a thread

using PackWeight = at::Tensor(const at::Tensor&, std::optional<std::int64_t>);
using PackedLinear = at::Tensor(const at::Tensor&, const at::Tensor&,
                                const std::optional<at::Tensor>&, std::string_view,
                                c10::List<std::optional<at::Scalar>>,
                                std::optional<std::string_view>);

// LibTorch registers these for its compiler; there is no C++ header for them.
const c10::TypedOperatorHandle<PackWeight>& pack_weight() {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mkldnn::_reorder_linear_weight", "")
                             .typed<PackWeight>();
  return op;
}
const c10::TypedOperatorHandle<PackedLinear>& packed_linear() {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mkldnn::_linear_pointwise", "")
                             .typed<PackedLinear>();
  return op;
}

// Dequantised and converted by all threads, a piece at a time.
void read_into(const Checkpoint& checkpoint, const WeightView& weight, const at::Tensor& into) {
  const std::int64_t columns = weight.shape.back();
  const std::int64_t rows = weight.count() / columns;
  const std::int64_t step = std::max<std::int64_t>(1, kChunkValues / columns);
  parallel_ranges(rows, step, [&](std::int64_t begin, std::int64_t end) {
    const at::Tensor part = into.narrow(0, begin, end - begin);
    const auto values = static_cast<std::size_t>((end - begin) * columns);
    if (part.scalar_type() == at::kFloat) {
      checkpoint.read_f32(weight, begin * columns, {part.mutable_data_ptr<float>(), values});
      return;
    }
    thread_local std::vector<float> buffer;
    buffer.resize(values);
    checkpoint.read_f32(weight, begin * columns, buffer);
    part.copy_(at::from_blob(buffer.data(), part.sizes(), at::TensorOptions(at::kFloat)));
  });
}

at::Tensor joined(const Checkpoint& checkpoint, const std::vector<std::string>& names,
                  at::ScalarType type) {
  std::vector<std::int64_t> shape = checkpoint.weight(names.front()).shape;
  for (std::size_t i = 1; i < names.size(); ++i) {
    const auto& other = checkpoint.weight(names[i]).shape;
    if (other.size() != shape.size() || other.back() != checkpoint.weight(names[0]).shape.back()) {
      if (shape.size() > 1) {
        fail_input("{}: tensor {}: its width is not that of {}", checkpoint.path(), names[i],
                   names.front());
      }
    }
    shape[0] += other[0];
  }
  const at::Tensor all = at::empty(shape, at::TensorOptions(type));
  std::int64_t row = 0;
  for (const std::string& name : names) {
    const WeightView& weight = checkpoint.weight(name);
    read_into(checkpoint, weight, all.narrow(0, row, weight.shape[0]));
    row += weight.shape[0];
  }
  return all;
}

}  // namespace

Linear::Linear(const Checkpoint& checkpoint, const std::vector<std::string>& weights,
               const std::vector<std::string>& biases, const Placement& placement)
    : packed_(placement.packed) {
  weight_ = joined(checkpoint, weights, placement.type);
  if (!biases.empty()) bias_ = joined(checkpoint, biases, placement.type).to(placement.device);
  weight_ = packed_ ? pack_weight().call(weight_, std::nullopt) : weight_.to(placement.device);
}

at::Tensor Linear::operator()(const at::Tensor& rows) const {
  if (!packed_) return at::linear(rows, weight_, bias_);
  return packed_linear().call(rows, weight_, bias_, "none",
                              c10::List<std::optional<at::Scalar>>(), std::nullopt);
}

at::Tensor load_f32(const Checkpoint& checkpoint, const std::string& name, at::Device device) {
  return joined(checkpoint, {name}, at::kFloat).to(device);
}

LayerWeights load_layer(const Checkpoint& checkpoint, std::int64_t layer,
                        const Placement& placement) {
  const ModelConfig& config = checkpoint.config();
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
  const auto biases = [&](bool there, std::initializer_list<const char*> names) {
    std::vector<std::string> full;
    if (there) {
      for (const char* name : names) full.push_back(attention + name + ".bias");
    }
    return full;
  };
  LayerWeights weights;
  weights.geometry = config.layers[static_cast<std::size_t>(layer)];
  weights.qkv = Linear(
      checkpoint,
      {attention + "q_proj.weight", attention + "k_proj.weight", attention + "v_proj.weight"},
      biases(config.attention_bias, {"q_proj", "k_proj", "v_proj"}), placement);
  weights.output = Linear(checkpoint, {attention + "o_proj.weight"},
                          biases(config.output_bias, {"o_proj"}), placement);
  weights.gate_up =
      Linear(checkpoint, {mlp + "gate_proj.weight", mlp + "up_proj.weight"}, {}, placement);
  weights.down = Linear(checkpoint, {mlp + "down_proj.weight"}, {}, placement);
  weights.input_norm = load_f32(checkpoint, prefix + "input_layernorm.weight", placement.device);
  weights.mlp_norm =
      load_f32(checkpoint, prefix + "post_attention_layernorm.weight", placement.device);
  if (config.qk_norm) {
    weights.query_norm = load_f32(checkpoint, attention + "q_norm.weight", placement.device);
    weights.key_norm = load_f32(checkpoint, attention + "k_norm.weight", placement.device);
  }
  return weights;
}

}  // namespace kv
