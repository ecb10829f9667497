#pragma once
// A checkpoint's tensors in the compute dtype, joined where one multiplication can do for several.

#include "kv/checkpoint/checkpoint.hh"
#include "kv/kernels/bf16_product.hh"
#include "kv/kernels/f32_product.hh"

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <optional>
#include <span>
#include <string>
#include <vector>

namespace kv {

struct Placement {
  at::ScalarType type = at::kFloat;
  at::Device device = at::kCPU;
  bool packed = true;       // in oneDNN's own order, or in that of kernels/; CPU only
  bool by_kernels = false;  // the latter, in bf16 where the sizes allow it; packed, bf16 or f32
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
  // The parts one under the other; `paired` as Bf16Matrix takes it, of a matrix by kernels only.
  // Throws kInput when a shape is not as said.
  Linear(const Checkpoint& checkpoint, const std::vector<Part>& parts, std::int64_t width,
         bool bias, const Placement& placement, bool paired = false);

  // In the compute dtype, or in f32.
  at::Tensor operator()(const at::Tensor& rows) const;
  at::Tensor to_f32(const at::Tensor& rows) const;
  // Of f32 by kernels: adds them to `sums` and returns true; else does nothing.
  bool add_f32(const at::Tensor& rows, at::Tensor& sums) const;

  // Of a bf16 matrix by kernels: `rows` rows, close together, to `out`, likewise. Panels are shared
  // among the threads.
  const std::optional<Bf16Matrix>& matrix() const { return matrix_; }
  void multiply(const c10::BFloat16* x, std::int64_t rows, ProductEnd end, void* out) const;

 private:
  at::Tensor weight_;
  std::optional<at::Tensor> bias_;
  bool packed_ = false;
  std::optional<Bf16Matrix> matrix_;  // instead of weight_, as is
  std::optional<F32Matrix> f32_;

  void multiply(const at::Tensor& rows, F32End end, at::Tensor& out) const;
};

struct LayerWeights {
  LayerGeometry geometry;
  Activation activation = Activation::kSilu;
  bool by_kernels = false;  // all four, in bf16, and gate_up is paired
  Linear qkv, output, gate_up, down;
  at::Tensor input_norm, mlp_norm;  // f32
  // f32, undefined unless the model has them; the last two are of what is added to the rows
  at::Tensor query_norm, key_norm, attention_post_norm, mlp_post_norm;
};

// Of the tokens as they enter the first layer: f32 [ids][hidden]. Throws kInput for an id that the
// model has not.
at::Tensor embedding_rows(const Checkpoint& checkpoint, std::span<const std::int32_t> ids);
LayerWeights load_layer(const Checkpoint& checkpoint, std::int64_t layer,
                        const Placement& placement);
at::Tensor load_norm(const Checkpoint& checkpoint, const std::string& name, std::int64_t width,
                     at::Device device);  // f32

}  // namespace kv
