#include "gguf_checkpoint.hh"

#include "kv/checkpoint/dequantize.hh"
#include "rope_divisors.hh"

#include <array>
#include <cmath>
#include <cstring>

namespace kv {
namespace {

// GGUF's names and Hugging Face's; {} is the layer.
struct NamePair {
  std::string_view gguf, hf;
};
constexpr std::array<NamePair, 3> kTopNames = {{
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
}};
// Of models that norm what attention and MLP add, first: ffn_norm is another one there.
constexpr std::array<NamePair, 3> kPostNormNames = {{
    {"post_attention_norm.weight", "post_attention_layernorm.weight"},
    {"ffn_norm.weight", "pre_feedforward_layernorm.weight"},
    {"post_ffw_norm.weight", "post_feedforward_layernorm.weight"},
}};
constexpr std::array<NamePair, 15> kLayerNames = {{
    {"attn_norm.weight", "input_layernorm.weight"},
    {"attn_q.weight", "self_attn.q_proj.weight"},
    {"attn_k.weight", "self_attn.k_proj.weight"},
    {"attn_v.weight", "self_attn.v_proj.weight"},
    {"attn_output.weight", "self_attn.o_proj.weight"},
    {"attn_q.bias", "self_attn.q_proj.bias"},
    {"attn_k.bias", "self_attn.k_proj.bias"},
    {"attn_v.bias", "self_attn.v_proj.bias"},
    {"attn_output.bias", "self_attn.o_proj.bias"},
    {"attn_q_norm.weight", "self_attn.q_norm.weight"},
    {"attn_k_norm.weight", "self_attn.k_norm.weight"},
    {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"ffn_gate.weight", "mlp.gate_proj.weight"},
    {"ffn_up.weight", "mlp.up_proj.weight"},
    {"ffn_down.weight", "mlp.down_proj.weight"},
}};

// Empty for tensors that are no weights of ours.
std::string hf_name(std::string_view name, bool post_norms) {
  for (const NamePair& pair : kTopNames) {
    if (name == pair.gguf) return std::string(pair.hf);
  }
  if (!name.starts_with("blk.")) return {};
  name.remove_prefix(4);
  const std::size_t dot = name.find('.');
  if (dot == std::string_view::npos) return {};
  const auto among = [&](std::span<const NamePair> pairs) -> std::string {
    for (const NamePair& pair : pairs) {
      if (name.substr(dot + 1) == pair.gguf) {
        return fmt::format("model.layers.{}.{}", name.substr(0, dot), pair.hf);
      }
    }
    return {};
  };
  const std::string found = post_norms ? among(kPostNormNames) : std::string();
  return found.empty() ? among(kLayerNames) : found;
}

std::optional<WeightType> weight_type(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
      return WeightType::kF32;
    case GgmlType::kF16:
      return WeightType::kF16;
    case GgmlType::kBF16:
      return WeightType::kBF16;
    case GgmlType::kQ8_0:
      return WeightType::kQ8_0;
    case GgmlType::kQ4_0:
      return WeightType::kQ4_0;
    case GgmlType::kQ4_1:
      return WeightType::kQ4_1;
    case GgmlType::kQ5_0:
      return WeightType::kQ5_0;
    case GgmlType::kQ5_1:
      return WeightType::kQ5_1;
    case GgmlType::kQ4_K:
      return WeightType::kQ4_K;
    case GgmlType::kQ5_K:
      return WeightType::kQ5_K;
    case GgmlType::kQ6_K:
      return WeightType::kQ6_K;
  }
  return std::nullopt;
}

}  // namespace

GgufCheckpoint::GgufCheckpoint(const std::string& path) : file_(path) {
  path_ = path;
  read_config();
  for (const GgufTensor& tensor : file_.tensors()) add_weight(tensor);
  config_.tied_head = !weights_.contains("lm_head.weight");
  config_.attention_bias = weights_.contains("model.layers.0.self_attn.q_proj.bias");
  config_.output_bias = weights_.contains("model.layers.0.self_attn.o_proj.bias");
  config_.qk_norm = weights_.contains("model.layers.0.self_attn.q_norm.weight");
  check_weights();
}

std::int64_t GgufCheckpoint::required(const std::string& key, std::int64_t most) const {
  const std::optional<std::int64_t> value = file_.integer(key);
  if (!value) fail_input("{}: key '{}' is missing", path_, key);
  if (*value < 1 || *value > most) fail_input("{}: {} = {} is out of range", path_, key, *value);
  return *value;
}

void GgufCheckpoint::read_config() {
  constexpr std::int64_t kMost = 1 << 24;
  const std::string arch(file_.text("general.architecture").value_or(""));
  family_ = family_of_gguf(arch);
  if (family_ == nullptr) {
    fail_input("{}: architecture '{}' is not supported ({} are)", path_, arch,
               family_names(/*gguf=*/true));
  }
  config_.name = path_.substr(path_.rfind('/') + 1);
  if (config_.name.ends_with(".gguf")) config_.name.resize(config_.name.size() - 5);
  config_.licence = std::string(file_.text("general.license").value_or(""));
  config_.hidden = required(arch + ".embedding_length", kMost);
  set_family(*family_, config_);
  config_.intermediate = required(arch + ".feed_forward_length", kMost);
  config_.query_heads = required(arch + ".attention.head_count", 1 << 12);
  config_.context = required(arch + ".context_length", INT64_MAX);
  config_.rms_epsilon =
      file_.number(arch + ".attention.layer_norm_rms_epsilon").value_or(config_.rms_epsilon);

  LayerGeometry layer;
  layer.kv_heads = file_.integer(arch + ".attention.head_count_kv").value_or(config_.query_heads);
  const std::int64_t head =
      family_->head_dim > 0 ? family_->head_dim : config_.hidden / config_.query_heads;
  layer.k_dim = file_.integer(arch + ".attention.key_length").value_or(head);
  layer.v_dim = file_.integer(arch + ".attention.value_length").value_or(head);
  layer.window = file_.integer(arch + ".attention.sliding_window").value_or(0);
  const std::int64_t rotated = file_.integer(arch + ".rope.dimension_count").value_or(layer.k_dim);
  if (layer.kv_heads < 1 || config_.query_heads % layer.kv_heads != 0 || layer.k_dim < 2 ||
      layer.k_dim % 2 != 0 || layer.k_dim > kMost || layer.v_dim < 1 || layer.v_dim > kMost) {
    fail_input("{}: {} query heads, {} KV heads and head dimensions {} and {} do not fit", path_,
               config_.query_heads, layer.kv_heads, layer.k_dim, layer.v_dim);
  }
  if (rotated != layer.k_dim) {
    fail_input("{}: RoPE over {} of {} dimensions is not supported", path_, rotated, layer.k_dim);
  }
  read_rope(arch, layer.rope);
  config_.layers.assign(static_cast<std::size_t>(required(arch + ".block_count", 1 << 12)), layer);
  if (std::ssize(config_.layers) == family_->width_scalar_layers) {
    config_.query_scalar =
        static_cast<double>(config_.hidden) / static_cast<double>(config_.query_heads);
  }
  set_windows(arch);

  const auto bos = file_.integer("tokenizer.ggml.bos_token_id");
  if (bos) config_.bos_id = static_cast<std::int32_t>(*bos);
  const auto eos = file_.integer("tokenizer.ggml.eos_token_id");
  if (eos) config_.eos_ids.push_back(static_cast<std::int32_t>(*eos));
  const auto eot = file_.integer("tokenizer.ggml.eot_token_id");
  if (eot && eot != eos) config_.eos_ids.push_back(static_cast<std::int32_t>(*eot));
}

void GgufCheckpoint::read_rope(const std::string& arch, Rope& rope) const {
  rope.theta = file_.number(arch + ".rope.freq_base").value_or(family_->theta);
  const std::string_view scaling = file_.text(arch + ".rope.scaling.type").value_or("none");
  rope.factor = file_.number(arch + ".rope.scaling.factor").value_or(1.0);
  rope.original_context =
      file_.integer(arch + ".rope.scaling.original_context_length").value_or(config_.context);
  if (scaling == "linear") {
    rope.scaling = Rope::Scaling::kLinear;
  } else if (scaling == "yarn") {
    rope.scaling = Rope::Scaling::kYarn;
    rope.attention_factor = 0.1 * std::log(rope.factor) + 1.0;
  } else if (scaling != "none") {
    fail_input("{}: RoPE scaling '{}' is not supported", path_, scaling);
  }
}

// Which layers slide, where not all do, and how keys are rotated in those.
void GgufCheckpoint::set_windows(const std::string& arch) {
  if (family_->full_every == 0 || config_.layers.front().window == 0) return;
  const std::int64_t full_every =
      file_.integer(arch + ".attention.sliding_window_pattern").value_or(family_->full_every);
  Rope sliding;
  sliding.theta = file_.number(arch + ".rope.freq_base_swa").value_or(family_->sliding_theta);
  for (std::size_t i = 0; i < config_.layers.size(); ++i) {
    LayerGeometry& layer = config_.layers[i];
    if (full_every > 0 && static_cast<std::int64_t>(i + 1) % full_every == 0) {
      layer.window = 0;
    } else {
      layer.rope = sliding;
    }
  }
}

void GgufCheckpoint::add_weight(const GgufTensor& tensor) {
  if (tensor.name.starts_with("rope_")) return add_rope(tensor);
  const std::string name = hf_name(tensor.name, config_.post_norms);
  if (name.empty()) return;
  const std::optional<WeightType> type = weight_type(tensor.type);
  if (!type) {
    fail_input("{}: tensor '{}' is of ggml type {}, which is not supported", path_, tensor.name,
               static_cast<std::uint32_t>(tensor.type));
  }
  WeightView view{name, *type, {tensor.shape.rbegin(), tensor.shape.rend()}, tensor.bytes};
  if (name == "model.embed_tokens.weight") config_.vocab = view.shape.front();
  weights_.emplace(name, std::move(view));
}

// Llama 3's scaling, which llama.cpp keeps as a tensor. rope_factors_long and rope_factors_short
// are LongRoPE's.
void GgufCheckpoint::add_rope(const GgufTensor& tensor) {
  if (tensor.name != "rope_freqs.weight") {
    fail_input("{}: RoPE scaling by the tensor '{}' is not supported", path_, tensor.name);
  }
  const LayerGeometry layer = config_.layers.front();
  if (tensor.type != GgmlType::kF32 || tensor.shape != std::vector<std::int64_t>{layer.k_dim / 2}) {
    fail_input("{}: rope_freqs.weight is not {} numbers of type F32", path_, layer.k_dim / 2);
  }
  if (layer.rope.scaling != Rope::Scaling::kNone) {
    fail_input("{}: RoPE scaling both by rope_freqs.weight and by the metadata", path_);
  }
  std::vector<float> divisors(static_cast<std::size_t>(layer.k_dim / 2));
  std::memcpy(divisors.data(), tensor.bytes.data(), divisors.size() * sizeof(float));
  const std::optional<Rope> rope = scaling_of_divisors(layer.rope, divisors);
  if (!rope) {
    fail_input("{}: rope_freqs.weight is not Llama 3's RoPE scaling; use the Hugging Face folder",
               path_);
  }
  for (LayerGeometry& each : config_.layers) {
    if (each.rope == layer.rope) each.rope = *rope;
  }
}

// llama.cpp rotates neighbours, Hugging Face halves: its converter interleaves the rows of a head,
// so that row 2i + j of the file is row j * dim/2 + i of the model.
bool GgufCheckpoint::interleaved(const WeightView& weight, std::int64_t& head_rows) const {
  if (!family_->interleaved) return false;
  head_rows = config_.layers.front().k_dim;
  return weight.name.find(".self_attn.q_proj.") != std::string::npos ||
         weight.name.find(".self_attn.k_proj.") != std::string::npos;
}

void GgufCheckpoint::read_f32(const WeightView& weight, std::int64_t first,
                              std::span<float> out) const {
  const BlockShape block = block_shape(weight.type);
  std::int64_t head_rows = 0;
  const auto offset_of = [&](std::int64_t element) {
    return static_cast<std::size_t>(element / block.count) * block.size_bytes;
  };
  if (!interleaved(weight, head_rows)) {
    dequantize(weight.type, weight.bytes.data() + offset_of(first), out);
    return;
  }
  const std::int64_t width = weight.shape.size() > 1 ? weight.shape.back() : 1;
  const std::int64_t half = head_rows / 2;
  for (std::size_t done = 0; done < out.size(); done += static_cast<std::size_t>(width)) {
    const std::int64_t row = (first + static_cast<std::int64_t>(done)) / width;
    const std::int64_t within = row % head_rows;
    const std::int64_t in_file = row - within + 2 * (within % half) + within / half;
    dequantize(weight.type, weight.bytes.data() + offset_of(in_file * width),
               out.subspan(done, static_cast<std::size_t>(width)));
  }
}

}  // namespace kv
