#pragma once
// Products of rows and a matrix of weights in f32. A row's bits depend neither on the other rows
// nor on how the outputs are shared among threads, which no library promises: what a model computes
// is the same for any block of a prefill and any number of threads.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace kv {

// Weights, packed once for all targets.
class F32Matrix {
 public:
  static constexpr std::int64_t kPanelOutputs = 16, kPackOutputs = kPanelOutputs;
  static constexpr std::int64_t kMaxSide = 1 << 20;

  // Room for the weights, whose values pack() gives. Throws std::invalid_argument for sides that
  // are not in 1 to kMaxSide.
  F32Matrix(std::int64_t outputs, std::int64_t inputs);

  // The weights of outputs [first, first + kPackOutputs), or of those there are; `first` is a
  // multiple of kPackOutputs, `rows` is [outputs][inputs]. Threads may pack different outputs at
  // once. Throws std::invalid_argument for others.
  void pack(std::int64_t first, std::span<const float> rows);

  std::int64_t outputs() const { return outputs_; }
  std::int64_t inputs() const { return inputs_; }
  std::int64_t panels() const { return (outputs_ + kPanelOutputs - 1) / kPanelOutputs; }

  // [panel][input][kPanelOutputs]: zeros for outputs beyond the last. 64-byte aligned.
  const float* data() const { return weights_.get(); }

 private:
  std::int64_t outputs_, inputs_;
  struct Free {
    void operator()(float* weights) const;
  };
  std::unique_ptr<float[], Free> weights_;
};

// What becomes of the sums of a row, one for each output.
enum class F32End {
  kStore,  // out = bias + sum
  kAdd,    // out += bias + sum
};

struct F32Product {
  const F32Matrix& weights;
  const float* x = nullptr;  // [rows][x_stride], of which weights.inputs() are read
  std::int64_t x_stride = 0;
  std::int64_t rows = 0;
  const float* bias = nullptr;  // [outputs] or null
  F32End end = F32End::kStore;
  float* out = nullptr;  // [rows][out_stride]
  std::int64_t out_stride = 0;
};

// The outputs of panels [first_panel, end_panel), so that threads can share one product. Sums are
// made in the order of the inputs, some hundred of them at a time, by vector_target()'s
// multiply-add: one rounding a product with AVX2 and AVX-512, two on the baseline. Throws
// std::invalid_argument for what does not fit.
void f32_product(const F32Product& product, std::int64_t first_panel, std::int64_t end_panel);

}  // namespace kv
