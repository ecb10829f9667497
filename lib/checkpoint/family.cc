#include "family.hh"

#include <algorithm>
#include <array>
#include <cmath>

namespace kv {
namespace {

constexpr std::array<Family, 5> kFamilies = {{
    {.name = "llama", .hf_type = "llama", .interleaved = true},
    {.name = "mistral", .hf_type = "mistral", .gguf = false},
    {.name = "qwen2", .hf_type = "qwen2", .attention_bias = true, .window_by_switch = true},
    {.name = "qwen3", .hf_type = "qwen3", .qk_norm = true, .window_by_switch = true},
    {.name = "gemma3",
     .hf_type = "gemma3_text",
     .qk_norm = true,
     .tied_head = true,
     .post_norms = true,
     .scaled_embedding = true,
     .hf_norms_less_one = true,
     .activation = Activation::kGeluTanh,
     .theta = 1e6,
     .sliding_theta = 1e4,
     .full_every = 6,
     .head_dim = 256,
     .query_scalar = 256,
     .width_scalar_layers = 62},
}};

const Family* first(std::string_view Family::*member, std::string_view value) {
  const auto found = std::ranges::find(kFamilies, value, member);
  return found == kFamilies.end() ? nullptr : &*found;
}

}  // namespace

const Family& family_of(const ModelConfig& config) {
  return *first(&Family::name, config.architecture);
}

const Family* family_of_gguf(std::string_view architecture) {
  const Family* family = first(&Family::name, architecture);
  return family != nullptr && family->gguf ? family : nullptr;
}

const Family* family_of_hf(std::string_view model_type) {
  return first(&Family::hf_type, model_type);
}

std::string family_names(bool gguf) {
  std::vector<std::string_view> names;
  for (const Family& family : kFamilies) {
    if (!gguf) names.push_back(family.hf_type);
    if (gguf && family.gguf) names.push_back(family.name);
  }
  const std::string_view last = names.back();
  names.pop_back();
  return fmt::format("{} and {}", fmt::join(names, ", "), last);
}

void set_family(const Family& family, ModelConfig& config) {
  config.architecture = family.name;
  config.qk_norm = family.qk_norm;
  config.post_norms = family.post_norms;
  config.activation = family.activation;
  if (family.scaled_embedding) {
    config.embedding_scale = std::sqrt(static_cast<double>(config.hidden));
  }
}

}  // namespace kv
