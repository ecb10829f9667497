#pragma once
// adapter_config.json of a LoRA adapter, as PEFT writes and reads it: W becomes W + s B A, with
// s = alpha / rank, or alpha / sqrt(rank) where the configuration says rslora.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kv {

struct AdapterConfig {
  std::int64_t rank = 8;
  double alpha = 16;
  bool rslora = false;
  bool rank_differs = false;         // by a rank_pattern: tensors say their rank
  std::vector<std::string> targets;  // "q_proj"; empty: the file has a regular expression
  std::vector<std::int64_t> layers;  // that are adapted, ascending; empty: all
  std::string base_name;             // as the writer called the model; not relied on

  // Of an adapted matrix of this rank.
  double scale(std::int64_t of_rank) const;
  // Whether "model.layers.3.self_attn.q_proj" is one of those adapted.
  bool covers(std::string_view module) const;
};

// Throws kInput, naming `place`: no JSON, no LoRA, or what is more than W + s B A (DoRA, trained
// biases or whole modules, alphas of single modules, transposed weights).
AdapterConfig parse_adapter_config(std::string_view json, const std::string& place);
std::string adapter_config_json(const AdapterConfig& config);

// The index of "model.layers.N.", or -1 for what belongs to no layer.
std::int64_t layer_of_weight(std::string_view name);

}  // namespace kv
