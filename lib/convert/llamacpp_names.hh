#pragma once
// What llama.cpp calls things, and in which order it has a head's values. Private to the folder.

#include "kv/convert/layout.hh"

#include <array>

namespace kv {

struct GgmlName {
  DType dtype;
  std::int32_t type;  // of ggml
};
inline constexpr std::array<GgmlName, 3> kTypes = {
    {{DType::kF32, 0}, {DType::kF16, 1}, {DType::kBF16, 30}}};

inline std::int32_t ggml_type_of(DType dtype) {
  for (const GgmlName& known : kTypes) {
    if (known.dtype == dtype) return known.type;
  }
  fail_usage("llama.cpp has no {}", dtype_name(dtype));
}

// llama.cpp turns neighbours, not halves, in models that its converter put in that order.
inline bool interleaves(const LayoutCache& cache) {
  const std::string& family = cache.model.architecture;
  if (family == "llama" || family == "mistral") return true;
  if (family == "qwen2" || family == "qwen3") return false;
  fail_input("model {}: the order of keys of family '{}' in llama.cpp is not known",
             cache.model.name, family);
}

}  // namespace kv
