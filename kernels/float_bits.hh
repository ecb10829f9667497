#pragma once
// f32 to bf16 and f16, to nearest, ties to even, as integers: the same on every machine and in
// CUDA, and no flag of the processor has a say. Not for NaN.

#include <cstdint>

#ifdef __CUDACC__
#define KV_HOST_DEVICE __host__ __device__
#else
#define KV_HOST_DEVICE
#endif

namespace kv {

// `bits` of an f32. Beyond the largest bf16: infinity.
KV_HOST_DEVICE inline std::uint16_t bf16_of_bits(std::uint32_t bits) {
  return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// Beyond the largest f16: infinity. Below 2^-14: in steps of 2^-24.
KV_HOST_DEVICE inline std::uint16_t f16_of_bits(std::uint32_t bits) {
  const std::uint32_t sign = bits >> 16 & 0x8000;
  const std::uint32_t magnitude = bits & 0x7FFFFFFF;
  std::uint32_t half;
  if (magnitude >= 0x47800000) {  // 65536 and more
    half = 0x7C00;
  } else if (magnitude >= 0x38800000) {  // 2^-14 and more: the exponent's bias goes from 127 to 15
    half = (magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13;
  } else if (magnitude < 0x33000000) {  // less than half a step
    half = 0;
  } else {
    const std::uint32_t shift = 126 - (magnitude >> 23);  // 14 to 24
    const std::uint32_t value = (magnitude & 0x7FFFFF) | 0x800000;
    const std::uint32_t whole = value >> shift;
    const std::uint32_t rest = value & ((1u << shift) - 1), middle = 1u << (shift - 1);
    half = whole + (rest > middle || (rest == middle && (whole & 1)));
  }
  return static_cast<std::uint16_t>(sign | half);
}

}  // namespace kv
