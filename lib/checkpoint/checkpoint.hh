#pragma once
// A model on disk, without LibTorch: its geometry, its tensors as mapped bytes, its fingerprint.
// A checkpoint is a .gguf file or a Hugging Face folder (config.json and safetensors).

#include "kv/base/bytes.hh"
#include "kv/container/geometry.hh"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kv {

// How a tensor's elements are stored. Block formats are ggml's.
enum class WeightType {
  kF32,
  kF16,
  kBF16,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ4_K,
  kQ5_K,
  kQ6_K,
};

// Of the MLP's gate.
enum class Activation { kSilu, kGeluTanh };

struct ModelConfig {
  std::string name;          // "smollm2" or the folder's name
  std::string architecture;  // "llama", "mistral", "qwen2", "qwen3", "gemma3"
  std::int64_t vocab = 0;
  std::int64_t hidden = 0;
  std::int64_t intermediate = 0;
  std::int64_t query_heads = 0;
  std::int64_t context = 0;  // tokens trained for
  double rms_epsilon = 1e-5;
  bool attention_bias = false;  // Qwen2: bias on q, k and v
  bool output_bias = false;     // Llama with attention_bias: on o as well
  bool qk_norm = false;         // Qwen3, Gemma 3: RMS norm on q and k of each head
  bool post_norms = false;      // Gemma 3: what attention and MLP add is normed before
  Activation activation = Activation::kSilu;
  double embedding_scale = 1;  // of the embeddings that enter the first layer
  double query_scalar = 0;     // attention's scores go over its square root; 0: over a key's values
  bool tied_head = false;      // logits from the embedding matrix
  std::optional<std::int32_t> bos_id;
  std::vector<std::int32_t> eos_ids;
  std::string licence;  // as the file names it; empty when it does not
  std::vector<LayerGeometry> layers;

  double score_scalar(const LayerGeometry& layer) const {
    return query_scalar > 0 ? query_scalar : static_cast<double>(layer.k_dim);
  }
};

// One tensor, mapped. `shape` is row-major as in PyTorch, outermost first; the last dimension is
// contiguous (and for block formats a multiple of the block).
struct WeightView {
  std::string name;
  WeightType type = WeightType::kF32;
  std::vector<std::int64_t> shape;
  ByteView bytes;

  std::int64_t count() const;
};

// A LoRA adapter that a checkpoint's weights have been merged with.
struct Adapter {
  std::string path;
  std::string fingerprint;                  // of its tensors and scale
  std::string base_name, base_fingerprint;  // of the model that it was merged into
  std::int64_t rank = 0;
  double alpha = 0;
  std::vector<std::string> targets;              // as its configuration has them
  std::int64_t first_layer = 0, last_layer = 0;  // that it changes; -1: none
  std::int64_t parameters = 0;
};

class Checkpoint {
 public:
  // `path_or_name`: a .gguf file, a folder, or a short name looked up by find_model(); or one of
  // these, '+', and a LoRA adapter in PEFT's layout: a folder, or a name looked up likewise.
  // Throws kDevice when there is no such model, kInput when it is damaged or of an unknown family,
  // or the adapter does not fit.
  static std::unique_ptr<Checkpoint> open(const std::string& path_or_name);
  virtual ~Checkpoint() = default;

  const ModelConfig& config() const { return config_; }
  const std::string& path() const { return path_; }

  // Names are Hugging Face's ("model.layers.0.self_attn.q_proj.weight") whatever the file calls
  // them. Throws kInput when absent.
  virtual const WeightView& weight(std::string_view name) const = 0;
  virtual bool has_weight(std::string_view name) const = 0;
  virtual std::vector<std::string> weight_names() const = 0;

  // Elements [first, first + out.size()) of a weight as f32, dequantised, rows in Hugging Face
  // order: GGUF files of family llama keep the rows of q and k interleaved for their RoPE, and
  // are put back here. Norms are what rows are multiplied by: Gemma's safetensors hold that less 1.
  // `first` and the size are whole rows.
  virtual void read_f32(const WeightView& weight, std::int64_t first,
                        std::span<float> out) const = 0;

  // 32 hex digits over geometry, tensor names, shapes, types and contents (of a tensor over 1 MiB,
  // its ends and evenly spaced pages: any training changes those). Independent of where it lies.
  virtual std::string fingerprint() const = 0;
  // Of the weights whose names begin with `prefix`, by the same measure: models that agree here
  // compute the same in that part, whatever their other weights.
  virtual std::string fingerprint_of(std::string_view prefix) const = 0;
  // Null when no adapter was merged in.
  virtual const Adapter* adapter() const { return nullptr; }

  // Where the tokenizer is: the GGUF file itself, or a folder with tokenizer.json or
  // tokenizer.model.
  virtual std::string tokenizer_path() const = 0;

 protected:
  ModelConfig config_;
  std::string path_;
};

// "smollm2" -> the file that set-up unpacked. Looks in $KVTOOLS_MODELS (a list with ':'), then
// where the build's set-up put models, then <prefix>/share/kvtools/models and
// $XDG_DATA_HOME/kvtools/models. A path that exists is returned as it is. Throws kDevice with the
// places searched.
std::string find_model(const std::string& path_or_name);

// The first layer whose keys and values the two models may make differently of the same tokens, at
// least 0; the number of layers when they make all the same. Layers before it agree in all weights,
// and so do embeddings; an adapter's untouched layers are such. Throws kInput when the geometries
// differ.
std::int64_t first_different_layer(const Checkpoint& a, const Checkpoint& b);

}  // namespace kv
