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

// `rows` rows of a matrix: the tensors NAME.weight and, where there is one, NAME.bias.
struct Part {
  std::string name;
  std::int64_t rows = 0;
};

// y = x W^T + b
class Linear {
 public:
  Linear() = default;
  // The parts one under the other. Throws kInput when a shape is not as said.
  Linear(const Checkpoint& checkpoint, const std::vector<Part>& parts, std::int64_t width,
         bool bias, const Placement& placement);

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
at::Tensor load_norm(const Checkpoint& checkpoint, const std::string& name, std::int64_t width,
                     at::Device device);  // f32

}  // namespace kv
