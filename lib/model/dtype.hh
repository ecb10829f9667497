#pragma once
// kv::DType and LibTorch's scalar types.

#include "kv/base/error.hh"
#include "kv/container/tensor.hh"

#include <c10/core/ScalarType.h>

namespace kv {

inline DType dtype_of(c10::ScalarType type) {
  switch (type) {
    case c10::kFloat:
      return DType::kF32;
    case c10::kHalf:
      return DType::kF16;
    case c10::kBFloat16:
      return DType::kBF16;
    default:
      fail_usage("-: a model computes in f32, f16 or bf16");
  }
}

}  // namespace kv
