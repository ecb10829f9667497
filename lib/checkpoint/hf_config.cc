#include "hf_config.hh"

#include "kv/base/json.hh"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 32;
constexpr std::int64_t kMost = 1 << 24;
constexpr const char *kFull = "full_attention", *kSliding = "sliding_attention";

json parse_object(const std::string& text, const std::string& place) {
  if (json_too_deep(text, kMaxDepth)) fail_input("{}: nested too deeply", place);
  json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) fail_input("{}: not a JSON object", place);
  return parsed;
}

class Config {
 public:
  Config(const json& object, const std::string& place) : object_(object), place_(place) {}

  // null counts as absent, as in transformers.
  bool has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }
  std::int64_t integer(const char* key, std::int64_t most) const {
    if (!has(key)) fail_input("{}: {} is missing", place_, key);
    const json& value = object_[key];
    if (!value.is_number_integer() || value < 1 || value > most) {
      fail_input("{}: {} is out of range", place_, key);
    }
    return value.get<std::int64_t>();
  }
  std::int64_t integer(const char* key, std::int64_t most, std::int64_t absent) const {
    return has(key) ? integer(key, most) : absent;
  }
  double number(const char* key, double absent) const {
    if (!has(key)) return absent;
    if (!object_[key].is_number()) fail_input("{}: {} is not a number", place_, key);
    return object_[key].get<double>();
  }
  bool boolean(const char* key, bool absent) const {
    if (!has(key)) return absent;
    if (!object_[key].is_boolean()) fail_input("{}: {} is neither true nor false", place_, key);
    return object_[key].get<bool>();
  }
  std::string text(const char* key, const char* absent) const {
    if (!has(key)) return absent;
    if (!object_[key].is_string()) fail_input("{}: {} is not text", place_, key);
    return object_[key].get<std::string>();
  }
  const json& raw(const char* key) const { return object_[key]; }
  const std::string& place() const { return place_; }

 private:
  const json& object_;
  const std::string& place_;
};

// transformers' modeling_rope_utils, _compute_yarn_parameters: the attention factor.
double yarn_attention_factor(const Config& scaling, double factor) {
  if (scaling.has("attention_factor")) return scaling.number("attention_factor", 1);
  const auto mscale = [factor](double m) {
    return factor <= 1 ? 1.0 : 0.1 * m * std::log(factor) + 1.0;
  };
  const double all = scaling.number("mscale_all_dim", 0), one = scaling.number("mscale", 0);
  return one != 0 && all != 0 ? mscale(one) / mscale(all) : mscale(1);
}

// `absent` is the base where the configuration has none.
Rope rope_of(const Config& config, std::int64_t context, double absent) {
  Rope rope;
  rope.theta = config.number("rope_theta", absent);
  const char* key = config.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!config.has(key)) return rope;
  if (!config.raw(key).is_object()) fail_input("{}: {} is not an object", config.place(), key);
  const Config scaling(config.raw(key), config.place());
  rope.theta = scaling.number("rope_theta", rope.theta);
  const std::string type = scaling.text("rope_type", scaling.text("type", "default").c_str());
  if (type == "default") return rope;
  rope.factor = scaling.number("factor", 1);
  if (!(rope.factor >= 1)) fail_input("{}: RoPE factor is below 1", config.place());
  rope.original_context = scaling.integer("original_max_position_embeddings", INT64_MAX, context);
  if (type == "linear") {
    rope.scaling = Rope::Scaling::kLinear;
  } else if (type == "llama3") {
    rope.scaling = Rope::Scaling::kLlama3;
    rope.low_freq_factor = scaling.number("low_freq_factor", 1);
    rope.high_freq_factor = scaling.number("high_freq_factor", 4);
  } else if (type == "yarn") {
    rope.scaling = Rope::Scaling::kYarn;
    rope.beta_fast = scaling.number("beta_fast", 32);
    rope.beta_slow = scaling.number("beta_slow", 1);
    rope.yarn_truncate = scaling.boolean("truncate", true);
    rope.attention_factor = yarn_attention_factor(scaling, rope.factor);
  } else {
    fail_input("{}: RoPE type '{}' is not supported (default, linear, llama3 and yarn are)",
               config.place(), type);
  }
  return rope;
}

// That of layers of this type: since transformers 5 rope_parameters may have an object for each;
// before, the base of sliding layers had a key of its own, and no scaling.
Rope rope_of_type(const Config& config, const Family& family, std::int64_t context,
                  const char* type) {
  const bool slides = std::string_view(type) == kSliding;
  const bool differs = slides && family.sliding_theta > 0;
  const double absent = differs ? config.number("rope_local_base_freq", family.sliding_theta)
                                : config.number("rope_theta", family.theta);
  if (config.has("rope_parameters") && config.raw("rope_parameters").is_object()) {
    const json& by_type = config.raw("rope_parameters");
    if (by_type.contains(type)) {
      const json part = {{"rope_parameters", by_type[type]}};
      return rope_of(Config(part, config.place()), context, absent);
    }
  }
  if (!differs) return rope_of(config, context, family.theta);
  Rope rope;
  rope.theta = absent;
  return rope;
}

// Which layers slide: layer_types says so since transformers 4.53; before, max_window_layers, or
// the family's pattern.
void set_windows(const Config& config, const Family& family, ModelConfig& model) {
  const bool by_switch = family.window_by_switch;
  if (!config.has("sliding_window") ||
      (by_switch && !config.boolean("use_sliding_window", false))) {
    return;
  }
  const std::int64_t window = config.integer("sliding_window", INT64_MAX);
  const std::int64_t full_layers =
      config.has("max_window_layers") && by_switch ? config.integer("max_window_layers", kMost) : 0;
  const bool typed = config.has("layer_types") && config.raw("layer_types").is_array() &&
                     config.raw("layer_types").size() == model.layers.size();
  const std::int64_t full_every =
      config.integer("sliding_window_pattern", kMost, family.full_every);
  for (std::size_t i = 0; i < model.layers.size(); ++i) {
    const auto index = static_cast<std::int64_t>(i);
    const bool slides = typed                   ? config.raw("layer_types")[i] == kSliding
                        : family.full_every > 0 ? (index + 1) % full_every != 0
                                                : index >= full_layers;
    if (slides) model.layers[i].window = window;
  }
}

void refuse_others(const Config& config, const Family& family) {
  const bool gelu = family.activation == Activation::kGeluTanh;
  const char* key = gelu ? "hidden_activation" : "hidden_act";
  const char* name = gelu ? "gelu_pytorch_tanh" : "silu";
  if (config.text(key, name) != name) fail_input("{}: {} is not {}", config.place(), key, name);
  if (config.boolean("mlp_bias", false))
    fail_input("{}: mlp_bias is not supported", config.place());
  for (const char* other : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    if (config.has(other)) fail_input("{}: {} is not supported", config.place(), other);
  }
  if (config.boolean("use_bidirectional_attention", false)) {
    fail_input("{}: use_bidirectional_attention is not supported", config.place());
  }
}

void add_ids(const Config& config, const char* key, std::vector<std::int32_t>& ids) {
  if (!config.has(key)) return;
  const json& value = config.raw(key);
  const json list = value.is_array() ? value : json::array({value});
  for (const json& id : list) {
    if (!id.is_number_integer() || id < 0 || id > INT32_MAX) {
      fail_input("{}: {} is not a token id", config.place(), key);
    }
    if (std::find(ids.begin(), ids.end(), id.get<std::int32_t>()) == ids.end()) {
      ids.push_back(id.get<std::int32_t>());
    }
  }
}

}  // namespace

ModelConfig hf_config(const std::string& text, const std::string& generation_text,
                      const std::string& place) {
  const json parsed = parse_object(text, place);
  const Config config(parsed, place);
  ModelConfig model;
  const std::string type = config.text("model_type", "");
  const Family* known = family_of_hf(type);
  if (known == nullptr) {
    fail_input("{}: model_type '{}' is not supported ({} are)", place, type,
               family_names(/*gguf=*/false));
  }
  const Family& family = *known;
  refuse_others(config, family);
  model.vocab = config.integer("vocab_size", kMost);
  model.hidden = config.integer("hidden_size", kMost);
  set_family(family, model);
  model.intermediate = config.integer("intermediate_size", kMost);
  model.query_heads = config.integer("num_attention_heads", 1 << 12);
  model.context = config.integer("max_position_embeddings", INT64_MAX, 2048);
  model.rms_epsilon = config.number("rms_norm_eps", 1e-6);
  model.tied_head = config.boolean("tie_word_embeddings", family.tied_head);
  const bool bias = config.boolean("attention_bias", false);
  model.attention_bias = family.attention_bias || bias;
  model.output_bias = bias && !family.attention_bias;
  if (family.query_scalar > 0) {
    model.query_scalar = config.number("query_pre_attn_scalar", family.query_scalar);
    if (!(model.query_scalar > 0)) fail_input("{}: query_pre_attn_scalar is not above 0", place);
  }

  LayerGeometry layer;
  layer.kv_heads = config.integer("num_key_value_heads", model.query_heads, model.query_heads);
  layer.k_dim = layer.v_dim = config.integer(
      "head_dim", 1 << 16,
      family.head_dim > 0 ? family.head_dim
                          : std::max<std::int64_t>(1, model.hidden / model.query_heads));
  if (model.query_heads % layer.kv_heads != 0 || layer.k_dim % 2 != 0) {
    fail_input("{}: {} query heads, {} KV heads and head dimension {} do not fit", place,
               model.query_heads, layer.kv_heads, layer.k_dim);
  }
  model.layers.assign(static_cast<std::size_t>(config.integer("num_hidden_layers", 1 << 12)),
                      layer);
  set_windows(config, family, model);
  const Rope full = rope_of_type(config, family, model.context, kFull);
  const Rope sliding = rope_of_type(config, family, model.context, kSliding);
  for (LayerGeometry& each : model.layers) each.rope = each.window > 0 ? sliding : full;

  if (!generation_text.empty()) {
    const json generation = parse_object(generation_text, "generation_config.json");
    add_ids(Config(generation, place), "eos_token_id", model.eos_ids);
  }
  add_ids(config, "eos_token_id", model.eos_ids);
  std::vector<std::int32_t> bos;
  add_ids(config, "bos_token_id", bos);
  if (!bos.empty()) model.bos_id = bos.front();
  return model;
}

}  // namespace kv
