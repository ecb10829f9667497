#pragma once
// A model whose weights stay as they are, with matrices of low rank beside them that learn
// (LoRA, Hu and others, ICLR 2022): y = x W^T + s (x A^T) B^T.

#include "kv/checkpoint/adapter_config.hh"
#include "kv/model/model.hh"
#include "kv/model/weights.hh"
#include "kv/tune/training_set.hh"

#include <ATen/core/Tensor.h>

#include <map>
#include <span>
#include <string>
#include <vector>

namespace kv {

// A and B of one weight, f32, on the model's device, with gradients.
struct LoraPair {
  std::string module;  // "model.layers.3.self_attn.q_proj"
  at::Tensor a, b;     // [rank][inputs], [outputs][rank]
};

class LoraModel {
 public:
  // `config` without targets: all seven projections; without layers: all. A is drawn from the seed,
  // uniform within 1 / sqrt(inputs), and B is 0, so that training begins at the model as it is.
  // Throws kUsage for targets and layers that the model has not, kDevice as Model::load().
  LoraModel(const Checkpoint& checkpoint, const ModelOptions& options, AdapterConfig config,
            std::uint64_t seed);

  const AdapterConfig& config() const { return config_; }
  std::vector<LoraPair>& pairs() { return pairs_; }
  const std::vector<LoraPair>& pairs() const { return pairs_; }
  std::int64_t parameters() const;

  // Sum over all targets of the texts of -ln p, a scalar with gradients.
  at::Tensor loss(std::span<const TrainingText* const> texts) const;
  // f32 [ids][vocab].
  at::Tensor logits(std::span<const std::int32_t> ids) const;

 private:
  struct Rows;  // of the texts, one under the other
  at::Tensor hidden(const Rows& rows) const;
  void layer(std::size_t index, const Rows& rows, at::Tensor& hidden) const;
  at::Tensor attend(std::size_t index, const Rows& rows, const at::Tensor& queries,
                    const at::Tensor& keys, const at::Tensor& values) const;
  // The pair's product, or `out` as it is.
  at::Tensor adapted(std::size_t layer, const char* module, const at::Tensor& in,
                     const at::Tensor& out) const;
  at::Tensor scores(const at::Tensor& hidden) const;

  const Checkpoint& checkpoint_;
  AdapterConfig config_;
  Placement placement_;
  std::vector<LayerWeights> layers_;
  Linear head_;
  at::Tensor final_norm_;
  std::vector<LoraPair> pairs_;
  std::map<std::string, std::size_t, std::less<>> by_module_;
};

// The modules that can be adapted, within a layer: "self_attn.q_proj" and so on.
std::span<const std::string_view> lora_modules();

}  // namespace kv
