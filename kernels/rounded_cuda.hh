#pragma once
// Operations of f32 that round once each, whatever the compiler would like to fuse.

#include <cmath>

namespace KV_CUDA_NAMESPACE {

#ifdef __CUDA_ARCH__
__device__ inline float rounded_add(float a, float b) { return __fadd_rn(a, b); }
__device__ inline float rounded_sub(float a, float b) { return __fsub_rn(a, b); }
__device__ inline float rounded_mul(float a, float b) { return __fmul_rn(a, b); }
__device__ inline float rounded_div(float a, float b) { return __fdiv_rn(a, b); }
__device__ inline int nearest_int(float x) { return __float2int_rn(x); }
#else  // the shim's builds have -ffp-contract=off
__device__ inline float rounded_add(float a, float b) { return a + b; }
__device__ inline float rounded_sub(float a, float b) { return a - b; }
__device__ inline float rounded_mul(float a, float b) { return a * b; }
__device__ inline float rounded_div(float a, float b) { return a / b; }
// As the device has it: NaN becomes 0, what is out of range the nearest that is not.
__device__ inline int nearest_int(float x) {
  if (!(x > -2147483648.0f)) return x == x ? -2147483647 - 1 : 0;
  return x < 2147483648.0f ? static_cast<int>(std::lrintf(x)) : 2147483647;
}
#endif

}  // namespace KV_CUDA_NAMESPACE
