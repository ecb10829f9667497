#pragma once
// Shape of a cache and how its keys are rotated: what a file must say so that another program can
// use it.

#include <cstdint>

namespace kv {

// RoPE of one layer: angle of pair i at position p is p * theta^(-2i/d), after scaling.
struct Rope {
  enum class Scaling { kNone, kLinear, kLlama3, kYarn };
  double theta = 10000.0;
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;                       // linear, llama3, yarn
  std::int64_t original_context = 0;         // llama3, yarn: tokens
  double low_freq_factor = 1.0;              // llama3
  double high_freq_factor = 4.0;             // llama3
  double beta_fast = 32.0, beta_slow = 1.0;  // yarn
  double attention_factor = 1.0;             // yarn: multiplies cos and sin
  bool yarn_truncate = true;                 // yarn: ramp bounds rounded outwards (HF "truncate")

  bool operator==(const Rope&) const = default;
};

// What differs by layer is data of the layer.
struct LayerGeometry {
  std::int64_t kv_heads = 0;
  std::int64_t k_dim = 0;   // a head's key and query
  std::int64_t v_dim = 0;   // a head's value
  std::int64_t window = 0;  // sliding attention over this many tokens; 0: all
  Rope rope;

  bool operator==(const LayerGeometry&) const = default;
};

}  // namespace kv
