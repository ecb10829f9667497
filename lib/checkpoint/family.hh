#pragma once
// The families of models that are known: what their files do not say of them. The next one goes
// here as a row; what it computes otherwise is a field of ModelConfig, and lib/model goes by that.
// Private to the folder.

#include "kv/checkpoint/checkpoint.hh"

#include <span>
#include <string>
#include <string_view>

namespace kv {

struct Family {
  std::string_view name;     // ours; GGUF's general.architecture
  std::string_view hf_type;  // model_type of config.json
  bool gguf = true;          // false: GGUF has it under another name
  bool interleaved = false;  // GGUF keeps the rows of a head's q and k interleaved
  bool qk_norm = false;
  bool attention_bias = false;    // on q, k and v, whatever config.json says
  bool window_by_switch = false;  // config.json's use_sliding_window and max_window_layers count
  bool tied_head = false;         // where config.json does not say
  bool post_norms = false;
  bool scaled_embedding = false;   // by the square root of their width
  bool hf_norms_less_one = false;  // safetensors hold norms' weights less 1
  Activation activation = Activation::kSilu;
  // Where the file does not say, of layers with full attention and of sliding ones.
  double theta = 10000, sliding_theta = 0;  // 0: the same
  std::int64_t full_every = 0;              // of so many layers the last does not slide; 0: as set
  std::int64_t head_dim = 0;                // 0: the width over the heads
  double query_scalar = 0;                  // of config.json; 0: it has none
  // GGUF does not say it: models of so many layers have the width over the heads; 0: none has.
  std::int64_t width_scalar_layers = 0;
};

// Of a configuration that set_family() had.
const Family& family_of(const ModelConfig& config);
// Null when there is none.
const Family* family_of_gguf(std::string_view architecture);
const Family* family_of_hf(std::string_view model_type);
// "llama, mistral and qwen2", for messages.
std::string family_names(bool gguf);

// What all of the family's models have.
void set_family(const Family& family, ModelConfig& config);

}  // namespace kv
