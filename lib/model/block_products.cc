#include "kv/model/block_products.hh"

#include "kv/model/aligned.hh"
#include "kv/model/parallel.hh"
#include "kv/model/row_ops.hh"

#include <ATen/Parallel.h>

#include <algorithm>

namespace kv {
namespace {

using T = c10::BFloat16;

// 1.5 MB of SmolLM2: with a panel of weights it fits the second-level cache of what has AMX.
constexpr std::int64_t kMostRows = 256;
constexpr std::int64_t kRowUnit = 32;  // of the product
constexpr std::int64_t kFewRows = 64;  // a thread: then threads share the panels, not the rows
constexpr std::int64_t kNormGrain = 16;

// body(begin, end) over blocks of rows.
template <typename F>
void each_block(std::int64_t rows, const F& body) {
  const std::int64_t threads = at::get_num_threads();
  if (rows < kFewRows * threads) {
    if (rows > 0) body(0, rows);
    return;
  }
  const std::int64_t rounds = (rows + threads * kMostRows - 1) / (threads * kMostRows);
  const std::int64_t blocks = threads * rounds;
  const std::int64_t units = (rows + blocks * kRowUnit - 1) / (blocks * kRowUnit);
  parallel_ranges(rows, units * kRowUnit, body);
}

// Into memory of this thread, which it keeps.
const T* normed_rows(const float* hidden, const at::Tensor& weight, double epsilon,
                     std::int64_t rows) {
  thread_local AlignedVector<T> memory;
  const std::int64_t width = weight.numel();
  memory.resize(static_cast<std::size_t>(rows * width));
  T* out = memory.data();
  const float* factors = weight.const_data_ptr<float>();
  parallel_ranges(rows, kNormGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      row_ops<T>().rms_norm(hidden + i * width, factors, epsilon, width, out + i * width);
    }
  });
  return out;
}

// Adds x W^T to `sum`, normed before where there is a norm.
void add_product(const Linear& linear, const at::Tensor& norm, double epsilon, const T* x,
                 std::int64_t rows, float* sum) {
  if (!norm.defined()) {
    linear.multiply(x, rows, ProductEnd::kAdd, sum);
    return;
  }
  thread_local AlignedVector<float> memory;
  const std::int64_t width = norm.numel();
  memory.resize(static_cast<std::size_t>(rows * width));
  const float* product = memory.data();
  linear.multiply(x, rows, ProductEnd::kStoreF32, memory.data());
  const float* factors = norm.const_data_ptr<float>();
  parallel_ranges(rows, kNormGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      row_ops<T>().add_normed(product + i * width, factors, epsilon, width, sum + i * width);
    }
  });
}

}  // namespace

void project_rows(const LayerWeights& weights, double rms_epsilon, const float* hidden,
                  std::int64_t rows, T* qkv) {
  const std::int64_t width = weights.qkv.matrix()->inputs();
  const std::int64_t outputs = weights.qkv.matrix()->outputs();
  each_block(rows, [&](std::int64_t begin, std::int64_t end) {
    const T* normed =
        normed_rows(hidden + begin * width, weights.input_norm, rms_epsilon, end - begin);
    weights.qkv.multiply(normed, end - begin, ProductEnd::kStore, qkv + begin * outputs);
  });
}

void finish_rows(const LayerWeights& weights, double rms_epsilon, const T* attended,
                 std::int64_t rows, float* hidden) {
  const std::int64_t from = weights.output.matrix()->inputs();
  const std::int64_t width = weights.output.matrix()->outputs();
  const std::int64_t inner = weights.down.matrix()->inputs();
  const ProductEnd gate =
      weights.activation == Activation::kGeluTanh ? ProductEnd::kGeluMul : ProductEnd::kSiluMul;
  each_block(rows, [&](std::int64_t begin, std::int64_t end) {
    thread_local AlignedVector<T> memory;
    const std::int64_t count = end - begin;
    memory.resize(static_cast<std::size_t>(count * inner));
    T* act = memory.data();
    float* sum = hidden + begin * width;
    add_product(weights.output, weights.attention_post_norm, rms_epsilon, attended + begin * from,
                count, sum);
    const T* normed = normed_rows(sum, weights.mlp_norm, rms_epsilon, count);
    weights.gate_up.multiply(normed, count, gate, act);
    add_product(weights.down, weights.mlp_post_norm, rms_epsilon, act, count, sum);
  });
}

}  // namespace kv
