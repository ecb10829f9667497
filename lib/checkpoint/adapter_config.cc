#include "kv/checkpoint/adapter_config.hh"

#include "kv/base/error.hh"
#include "kv/base/json.hh"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace kv {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaxRank = 1 << 14;
constexpr std::int64_t kMaxLayer = (1 << 12) - 1;

// Fields of the configuration; a null counts as absent, as in Python.
class Fields {
 public:
  Fields(const json& object, const std::string& place) : object_(object), place_(place) {}

  const json* find(const char* key) const {
    const auto at = object_.find(key);
    return at == object_.end() || at->is_null() ? nullptr : &*at;
  }
  [[noreturn]] void refuse(const char* key, const std::string& what) const {
    fail_input("{}: '{}' {}", place_, key, what);
  }
  bool flag(const char* key) const {
    const json* value = find(key);
    if (!value) return false;
    if (!value->is_boolean()) refuse(key, "is neither true nor false");
    return value->get<bool>();
  }
  std::string text(const char* key) const {
    const json* value = find(key);
    if (!value) return "";
    if (!value->is_string()) refuse(key, "is no text");
    return value->get<std::string>();
  }
  std::int64_t integer(const char* key, const json& value, std::int64_t least,
                       std::int64_t most) const {
    if (!value.is_number_integer() ||
        (value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{1} << 40) ||
        value.get<std::int64_t>() < least || value.get<std::int64_t>() > most) {
      refuse(key, fmt::format("is not an integer from {} to {}", least, most));
    }
    return value.get<std::int64_t>();
  }
  // Refuses whatever is there and not empty.
  void must_be_empty(const char* key, const char* why) const {
    const json* value = find(key);
    if (value && !(value->is_structured() && value->empty())) refuse(key, why);
  }

 private:
  const json& object_;
  const std::string& place_;
};

}  // namespace

double AdapterConfig::scale(std::int64_t of_rank) const {
  const auto r = static_cast<double>(of_rank);
  return alpha / (rslora ? std::sqrt(r) : r);
}

bool AdapterConfig::covers(std::string_view module) const {
  const auto named = [&](const std::string& target) {
    return module == target || module.ends_with("." + target);
  };
  return (targets.empty() || std::ranges::any_of(targets, named)) &&
         (layers.empty() || std::ranges::binary_search(layers, layer_of_weight(module)));
}

std::int64_t layer_of_weight(std::string_view name) {
  constexpr std::string_view kPrefix = "model.layers.";
  if (!name.starts_with(kPrefix)) return -1;
  name.remove_prefix(kPrefix.size());
  std::int64_t layer = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  const bool whole = error == std::errc() && end != name.data() + name.size() && *end == '.';
  return whole && layer >= 0 ? layer : -1;
}

AdapterConfig parse_adapter_config(std::string_view text, const std::string& place) {
  if (json_too_deep(text, 16)) fail_input("{}: nested too deeply", place);
  const json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) fail_input("{}: not a JSON object", place);
  const Fields fields(root, place);
  if (fields.text("peft_type") != "LORA") fields.refuse("peft_type", "is not LORA");
  AdapterConfig config;
  const json* rank = fields.find("r");
  if (!rank) fields.refuse("r", "is missing");
  config.rank = fields.integer("r", *rank, 1, kMaxRank);
  const json* alpha = fields.find("lora_alpha");
  if (!alpha || !alpha->is_number() || !std::isfinite(alpha->get<double>())) {
    fields.refuse("lora_alpha", "is missing or no number");
  }
  config.alpha = alpha->get<double>();
  config.rslora = fields.flag("use_rslora");
  if (fields.flag("use_dora")) fields.refuse("use_dora", "is set; only plain LoRA can be merged");
  if (fields.flag("fan_in_fan_out")) {
    fields.refuse("fan_in_fan_out", "is set; no weight of these models is transposed");
  }
  if (const std::string bias = fields.text("bias"); !bias.empty() && bias != "none") {
    fields.refuse("bias", "is not none; trained biases cannot be merged");
  }
  fields.must_be_empty("modules_to_save", "is not empty; whole modules cannot be merged");
  fields.must_be_empty("alpha_pattern", "is not empty; modules must share one lora_alpha");
  fields.must_be_empty("layer_replication", "is not empty; layers cannot be repeated");
  if (const json* pattern = fields.find("rank_pattern")) {
    if (!pattern->is_object()) fields.refuse("rank_pattern", "is no object");
    config.rank_differs = !pattern->empty();
  }
  if (const json* targets = fields.find("target_modules"); targets && targets->is_array()) {
    for (const json& target : *targets) {
      if (!target.is_string()) fields.refuse("target_modules", "holds what is no text");
      config.targets.push_back(target.get<std::string>());
    }
    if (config.targets.empty()) fields.refuse("target_modules", "is empty");
  } else if (targets && !targets->is_string()) {
    fields.refuse("target_modules", "is neither a list nor text");
  }
  std::ranges::sort(config.targets);
  if (const json* layers = fields.find("layers_to_transform")) {
    const json list = layers->is_array() ? *layers : json::array({*layers});
    for (const json& layer : list) {
      config.layers.push_back(fields.integer("layers_to_transform", layer, 0, kMaxLayer));
    }
  }
  std::ranges::sort(config.layers);
  config.base_name = fields.text("base_model_name_or_path");
  return config;
}

std::string adapter_config_json(const AdapterConfig& config) {
  nlohmann::ordered_json out = {{"peft_type", "LORA"},
                                {"task_type", "CAUSAL_LM"},
                                {"r", config.rank},
                                {"lora_alpha", config.alpha},
                                {"use_rslora", config.rslora},
                                {"target_modules", config.targets},
                                {"lora_dropout", 0.0},
                                {"bias", "none"},
                                {"fan_in_fan_out", false},
                                {"inference_mode", true},
                                {"base_model_name_or_path", config.base_name}};
  if (!config.layers.empty()) {
    out["layers_to_transform"] = config.layers;
    out["layers_pattern"] = "layers";
  }
  return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace kv
