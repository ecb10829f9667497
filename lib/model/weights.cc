#include "kv/model/weights.hh"

#include "kv/base/error.hh"
#include "kv/model/parallel.hh"

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linear.h>

#include <algorithm>
#include <numeric>

namespace kv {
namespace {

constexpr std::int64_t kChunkValues = 1 << 18;  // a megabyte of f32 a thread
constexpr std::int64_t kPartsOfThread = 4;      // so that one that starts late does less

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
void read_into(const Checkpoint& checkpoint, const WeightView& weight, std::int64_t columns,
               const at::Tensor& into) {
  const std::int64_t rows = into.size(0);
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

void check_width(const Checkpoint& checkpoint, const WeightView& weight, std::int64_t width) {
  if (weight.shape.empty() || weight.shape.back() != width) {
    fail_input("{}: tensor {}: rows of {} where the model needs {}", checkpoint.path(), weight.name,
               weight.shape.empty() ? 0 : weight.shape.back(), width);
  }
}

void check_height(const Checkpoint& checkpoint, const std::string& name, std::int64_t height,
                  std::int64_t needed) {
  if (height != needed) {
    fail_input("{}: tensor {}: {} rows where the model needs {}", checkpoint.path(), name, height,
               needed);
  }
}

at::Tensor load_matrix(const Checkpoint& checkpoint, const std::vector<Part>& parts,
                       std::int64_t width, at::ScalarType type) {
  std::int64_t height = 0;
  for (const Part& part : parts) height += part.rows;
  const at::Tensor all = at::empty({height, width}, at::TensorOptions(type));
  std::int64_t row = 0;
  for (const Part& part : parts) {
    const WeightView& weight = checkpoint.weight(part.name + ".weight");
    check_width(checkpoint, weight, width);
    check_height(checkpoint, weight.name, weight.count() / width, part.rows);
    read_into(checkpoint, weight, width, all.narrow(0, row, part.rows));
    row += part.rows;
  }
  return all;
}

// Sixteen outputs at a time from the file to where they stay, by all threads: a matrix in between
// costs as much again.
template <typename Matrix>
void pack_parts(const Checkpoint& checkpoint, const std::vector<Part>& parts, Matrix& matrix) {
  const std::int64_t height = matrix.outputs(), width = matrix.inputs();
  std::vector<const WeightView*> tensors;
  for (const Part& part : parts) {
    const WeightView& weight = checkpoint.weight(part.name + ".weight");
    check_width(checkpoint, weight, width);
    check_height(checkpoint, weight.name, weight.count() / width, part.rows);
    tensors.push_back(&weight);
  }
  constexpr std::int64_t kRows = Matrix::kPackOutputs;
  const std::int64_t groups = (height + kRows - 1) / kRows;
  const std::int64_t step = std::max<std::int64_t>(1, kChunkValues / (kRows * width));
  parallel_ranges(groups, step, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> rows(static_cast<std::size_t>(kRows * width));
    for (std::int64_t group = begin; group < end; ++group) {
      const std::int64_t first = group * kRows, last = std::min(height, first + kRows);
      std::int64_t part_begin = 0;
      for (std::size_t i = 0; i < parts.size(); part_begin += parts[i++].rows) {
        const std::int64_t from = std::max(first, part_begin);
        const std::int64_t to = std::min(last, part_begin + parts[i].rows);
        if (from >= to) continue;
        checkpoint.read_f32(
            *tensors[i], (from - part_begin) * width,
            std::span(rows).subspan(static_cast<std::size_t>((from - first) * width),
                                    static_cast<std::size_t>((to - from) * width)));
      }
      matrix.pack(first, std::span(rows).first(static_cast<std::size_t>((last - first) * width)));
    }
  });
}

// Panels [begin, end) at a time, shared among the threads.
template <typename F>
void each_panels(std::int64_t panels, const F& body) {
  const std::int64_t parts = kPartsOfThread * at::get_num_threads();
  parallel_ranges(panels, (panels + parts - 1) / parts, body);
}

at::Tensor load_bias(const Checkpoint& checkpoint, const std::vector<Part>& parts,
                     at::ScalarType type) {
  std::vector<float> values;
  for (const Part& part : parts) {
    const WeightView& bias = checkpoint.weight(part.name + ".bias");
    check_width(checkpoint, bias, part.rows);
    check_height(checkpoint, bias.name, bias.count() / part.rows, 1);
    values.resize(values.size() + static_cast<std::size_t>(part.rows));
    checkpoint.read_f32(bias, 0, std::span(values).last(static_cast<std::size_t>(part.rows)));
  }
  return at::from_blob(values.data(), {static_cast<std::int64_t>(values.size())},
                       at::TensorOptions(at::kFloat))
      .to(type, false, true);
}

}  // namespace

Linear::Linear(const Checkpoint& checkpoint, const std::vector<Part>& parts, std::int64_t width,
               bool bias, const Placement& placement, bool paired)
    : packed_(placement.packed) {
  std::int64_t height = 0;
  for (const Part& part : parts) height += part.rows;
  const bool is_f32 = placement.type == at::kFloat;
  const bool by_kernels = placement.by_kernels && (is_f32 || Bf16Matrix::fits(height, width));
  if (by_kernels && is_f32) {
    pack_parts(checkpoint, parts, f32_.emplace(height, width));
  } else if (by_kernels) {
    pack_parts(checkpoint, parts, matrix_.emplace(height, width, paired));
  } else {
    weight_ = load_matrix(checkpoint, parts, width, placement.type);
    weight_ = packed_ ? pack_weight().call(weight_, std::nullopt) : weight_.to(placement.device);
  }
  if (bias) {
    const auto type = by_kernels ? at::kFloat : placement.type;
    bias_ = load_bias(checkpoint, parts, type).to(placement.device);
  }
}

at::Tensor Linear::operator()(const at::Tensor& rows) const {
  if (!packed_) return at::linear(rows, weight_, bias_);
  if (f32_) {
    at::Tensor out = at::empty({rows.size(0), f32_->outputs()}, rows.options());
    multiply(rows, F32End::kStore, out);
    return out;
  }
  if (!matrix_) {
    return packed_linear().call(rows, weight_, bias_, "none",
                                c10::List<std::optional<at::Scalar>>(), std::nullopt);
  }
  const at::Tensor out = at::empty({rows.size(0), matrix_->outputs()}, rows.options());
  multiply(rows.const_data_ptr<c10::BFloat16>(), rows.size(0), ProductEnd::kStore,
           out.mutable_data_ptr());
  return out;
}

at::Tensor Linear::to_f32(const at::Tensor& rows) const {
  if (!matrix_) return (*this)(rows).to(at::kFloat);
  const at::Tensor out =
      at::empty({rows.size(0), matrix_->outputs()}, rows.options().dtype(at::kFloat));
  multiply(rows.const_data_ptr<c10::BFloat16>(), rows.size(0), ProductEnd::kStoreF32,
           out.mutable_data_ptr());
  return out;
}

void Linear::multiply(const c10::BFloat16* x, std::int64_t rows, ProductEnd end, void* out) const {
  const std::int64_t outputs = matrix_->outputs();
  const Bf16Product product{.weights = *matrix_,
                            .x = reinterpret_cast<const std::uint16_t*>(x),
                            .x_stride = matrix_->inputs(),
                            .rows = rows,
                            .bias = bias_ ? bias_->const_data_ptr<float>() : nullptr,
                            .end = end,
                            .out = out,
                            .out_stride = is_paired(end) ? outputs / 2 : outputs};
  each_panels(matrix_->panels(),
              [&](std::int64_t begin, std::int64_t end_) { bf16_product(product, begin, end_); });
}

bool Linear::add_f32(const at::Tensor& rows, at::Tensor& sums) const {
  if (f32_) multiply(rows, F32End::kAdd, sums);
  return f32_.has_value();
}

void Linear::multiply(const at::Tensor& rows, F32End end, at::Tensor& out) const {
  const at::Tensor x = rows.contiguous();
  const F32Product product{.weights = *f32_,
                           .x = x.const_data_ptr<float>(),
                           .x_stride = f32_->inputs(),
                           .rows = x.size(0),
                           .bias = bias_ ? bias_->const_data_ptr<float>() : nullptr,
                           .end = end,
                           .out = out.mutable_data_ptr<float>(),
                           .out_stride = f32_->outputs()};
  each_panels(f32_->panels(),
              [&](std::int64_t begin, std::int64_t end_) { f32_product(product, begin, end_); });
}

at::Tensor load_norm(const Checkpoint& checkpoint, const std::string& name, std::int64_t width,
                     at::Device device) {
  return load_matrix(checkpoint, {{name, 1}}, width, at::kFloat).flatten().to(device);
}

at::Tensor embedding_rows(const Checkpoint& checkpoint, std::span<const std::int32_t> ids) {
  const WeightView& table = checkpoint.weight("model.embed_tokens.weight");
  const std::int64_t width = checkpoint.config().hidden, vocab = checkpoint.config().vocab;
  const auto scale = static_cast<float>(checkpoint.config().embedding_scale);
  at::Tensor rows = at::empty({std::ssize(ids), width}, at::TensorOptions(at::kFloat));
  float* out = rows.mutable_data_ptr<float>();
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= vocab) {
      fail_input("{}: token id {}: the model has {}", checkpoint.path(), id, vocab);
    }
    checkpoint.read_f32(table, id * width, {out, static_cast<std::size_t>(width)});
    if (scale != 1) std::transform(out, out + width, out, [&](float x) { return x * scale; });
    out += width;
  }
  return rows;
}

LayerWeights load_layer(const Checkpoint& checkpoint, std::int64_t layer, const Placement& wanted) {
  const ModelConfig& config = checkpoint.config();
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
  LayerWeights weights;
  weights.geometry = config.layers[static_cast<std::size_t>(layer)];
  weights.activation = config.activation;
  const LayerGeometry& geometry = weights.geometry;
  const std::int64_t query_width = config.query_heads * geometry.k_dim;
  const std::int64_t value_width = config.query_heads * geometry.v_dim;
  Placement placement = wanted;
  if (placement.type == at::kBFloat16) {
    placement.by_kernels =
        placement.by_kernels &&
        Bf16Matrix::fits(query_width + geometry.kv_heads * (geometry.k_dim + geometry.v_dim),
                         config.hidden) &&
        Bf16Matrix::fits(config.hidden, value_width) &&
        Bf16Matrix::fits(2 * config.intermediate, config.hidden) &&
        Bf16Matrix::fits(config.hidden, config.intermediate);
    weights.by_kernels = placement.by_kernels;
  }
  weights.qkv = Linear(checkpoint,
                       {{attention + "q_proj", query_width},
                        {attention + "k_proj", geometry.kv_heads * geometry.k_dim},
                        {attention + "v_proj", geometry.kv_heads * geometry.v_dim}},
                       config.hidden, config.attention_bias, placement);
  weights.output = Linear(checkpoint, {{attention + "o_proj", config.hidden}}, value_width,
                          config.output_bias, placement);
  weights.gate_up =
      Linear(checkpoint,
             {{mlp + "gate_proj", config.intermediate}, {mlp + "up_proj", config.intermediate}},
             config.hidden, false, placement, weights.by_kernels);
  weights.down = Linear(checkpoint, {{mlp + "down_proj", config.hidden}}, config.intermediate,
                        false, placement);
  const at::Device device = placement.device;
  const auto norm = [&](const char* name) {
    return load_norm(checkpoint, prefix + name, config.hidden, device);
  };
  weights.input_norm = norm("input_layernorm");
  if (config.post_norms) {
    weights.attention_post_norm = norm("post_attention_layernorm");
    weights.mlp_norm = norm("pre_feedforward_layernorm");
    weights.mlp_post_norm = norm("post_feedforward_layernorm");
  } else {
    weights.mlp_norm = norm("post_attention_layernorm");
  }
  if (config.qk_norm) {
    weights.query_norm = load_norm(checkpoint, attention + "q_norm", geometry.k_dim, device);
    weights.key_norm = load_norm(checkpoint, attention + "k_norm", geometry.k_dim, device);
  }
  return weights;
}

}  // namespace kv
