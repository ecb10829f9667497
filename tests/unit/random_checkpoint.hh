#pragma once
// A small model with random weights, in memory.

#include "kv/checkpoint/checkpoint.hh"

#include <algorithm>
#include <map>
#include <random>

namespace kv {

struct RandomShape {
  std::int64_t layers = 3, hidden = 48, intermediate = 112, query_heads = 6, kv_heads = 2,
               head_dim = 16, vocab = 97, window = 0;
  bool bias = false, qk_norm = false;
};

class RandomCheckpoint : public Checkpoint {
 public:
  explicit RandomCheckpoint(const RandomShape& shape) {
    path_ = "random";
    config_.name = config_.architecture = "llama";
    config_.vocab = shape.vocab;
    config_.hidden = shape.hidden;
    config_.intermediate = shape.intermediate;
    config_.query_heads = shape.query_heads;
    config_.context = 4096;
    config_.attention_bias = shape.bias;
    config_.qk_norm = shape.qk_norm;
    config_.tied_head = true;
    LayerGeometry layer;
    layer.kv_heads = shape.kv_heads;
    layer.k_dim = layer.v_dim = shape.head_dim;
    config_.layers.assign(static_cast<std::size_t>(shape.layers), layer);
    // Every second layer slides, as some models have it.
    for (std::size_t i = 0; i < config_.layers.size(); i += 2) {
      config_.layers[i].window = shape.window;
    }

    add("model.embed_tokens.weight", {shape.vocab, shape.hidden}, 0, 1);
    add("model.norm.weight", {shape.hidden}, 1, 0.2f);
    for (std::int64_t i = 0; i < shape.layers; ++i) add_layer(shape, i);
  }

  const WeightView& weight(std::string_view name) const override {
    const auto found = weights_.find(name);
    if (found == weights_.end()) fail_input("random: no tensor {}", name);
    return found->second.view;
  }
  bool has_weight(std::string_view name) const override { return weights_.contains(name); }
  std::vector<std::string> weight_names() const override {
    std::vector<std::string> names;
    for (const auto& entry : weights_) names.push_back(entry.first);
    return names;
  }
  void read_f32(const WeightView& weight, std::int64_t first, std::span<float> out) const override {
    const auto& values = weights_.find(weight.name)->second.values;
    std::copy_n(values.begin() + first, out.size(), out.begin());
  }
  std::string fingerprint() const override { return "random"; }
  std::string fingerprint_of(std::string_view prefix) const override { return std::string(prefix); }
  std::string tokenizer_path() const override { return path_; }

  void reshape(const std::string& name, std::vector<std::int64_t> shape) {
    weights_.find(name)->second.view.shape = std::move(shape);
  }

 private:
  struct Weight {
    std::vector<float> values;
    WeightView view;
  };

  void add_layer(const RandomShape& shape, std::int64_t index) {
    const std::string prefix = "model.layers." + std::to_string(index) + ".";
    const std::string attention = prefix + "self_attn.";
    const std::int64_t q = shape.query_heads * shape.head_dim, k = shape.kv_heads * shape.head_dim;
    const float spread = 1.5f / std::sqrt(static_cast<float>(shape.hidden));
    for (const auto& [name, rows] : {std::pair("q_proj", q), {"k_proj", k}, {"v_proj", k}}) {
      add(attention + name + ".weight", {rows, shape.hidden}, 0, spread);
      if (shape.bias) add(attention + name + ".bias", {rows}, 0, 0.5f);
    }
    add(attention + "o_proj.weight", {shape.hidden, q}, 0, spread);
    add(prefix + "mlp.gate_proj.weight", {shape.intermediate, shape.hidden}, 0, spread);
    add(prefix + "mlp.up_proj.weight", {shape.intermediate, shape.hidden}, 0, spread);
    add(prefix + "mlp.down_proj.weight", {shape.hidden, shape.intermediate}, 0, spread);
    add(prefix + "input_layernorm.weight", {shape.hidden}, 1, 0.2f);
    add(prefix + "post_attention_layernorm.weight", {shape.hidden}, 1, 0.2f);
    if (shape.qk_norm) {
      add(attention + "q_norm.weight", {shape.head_dim}, 1, 0.2f);
      add(attention + "k_norm.weight", {shape.head_dim}, 1, 0.2f);
    }
  }

  void add(const std::string& name, std::vector<std::int64_t> shape, float mean, float spread) {
    Weight& weight = weights_[name];
    weight.view.name = name;
    weight.view.shape = std::move(shape);
    std::normal_distribution<float> normal(mean, spread);
    weight.values.resize(static_cast<std::size_t>(weight.view.count()));
    std::ranges::generate(weight.values, [&] { return normal(random_); });
  }

  std::mt19937 random_{7};
  std::map<std::string, Weight, std::less<>> weights_;
};

}  // namespace kv
