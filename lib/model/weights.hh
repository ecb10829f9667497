#pragma once
// A checkpoint's tensors in the compute dtype, joined where one multiplication can do for several.

#include "kv/checkpoint/checkpoint.hh"

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <optional>
#include <string>
#include <vector>

namespace kv {

struct Placement {
  at::ScalarType type = at::kFloat;
  at::Device device = at::kCPU;
  bool packed = true;  // in oneDNN's own order; CPU only
};

// y = x W^T + b
class Linear {
 public:
  Linear() = default;
  // Rows of `weights` one under the other, and of `biases` unless empty.
  Linear(const Checkpoint& checkpoint, const std::vector<std::string>& weights,
         const std::vector<std::string>& biases, const Placement& placement);

  at::Tensor operator()(const at::Tensor& rows) const;

 private:
  at::Tensor weight_;
  std::optional<at::Tensor> bias_;
  bool packed_ = false;
};

struct LayerWeights {
  LayerGeometry geometry;
  Linear qkv, output, gate_up, down;
  at::Tensor input_norm, mlp_norm;  // f32
  at::Tensor query_norm, key_norm;  // f32, undefined unless the family has them
};

LayerWeights load_layer(const Checkpoint& checkpoint, std::int64_t layer,
                        const Placement& placement);
at::Tensor load_f32(const Checkpoint& checkpoint, const std::string& name, at::Device device);

}  // namespace kv
