#include "epilogue_targets.hh"
#include "float_bits.hh"

#include <algorithm>
#include <bit>

namespace kv {
namespace {

std::int32_t shift(std::uint32_t a, int s) {
  if (s >= 0) return static_cast<std::int32_t>(a << s);
  return static_cast<std::int32_t>(a + (1u << (-s - 1))) >> -s;
}

}  // namespace

EpilogueTarget reconstruct_scalar(const Reconstruction& job) {
  for (std::int64_t c = 0; c < job.outputs; ++c) {
    for (std::int64_t t = 0; t < job.tokens; ++t) {
      const auto r = static_cast<std::uint32_t>(job.r[c * job.r_stride + t])
                     << (job.g ? job.g[c] : 0);
      const auto p = static_cast<std::uint32_t>(job.p ? job.p[c * job.p_stride + t] : 0);
      const auto residual = static_cast<std::uint32_t>(shift(r * job.m[t], job.s[t]));
      const auto v = static_cast<std::int32_t>(p + residual);
      if (job.n) {
        const std::int32_t rounded = shift(static_cast<std::uint32_t>(v), -job.f[c]);
        job.n[(c / 4 * job.n_stride + t) * 4 + c % 4] =
            static_cast<std::uint8_t>(std::clamp(rounded, -127, 127) + 128);
      }
      if (!job.x) continue;
      const float product = static_cast<float>(v) * job.unit[c];
      const float x = job.mean[c] + product;
      const std::int64_t at = t * job.x_stride + c;
      switch (job.x_type) {
        case EpilogueType::kF32:
          static_cast<float*>(job.x)[at] = x;
          break;
        case EpilogueType::kF16:
          static_cast<std::uint16_t*>(job.x)[at] = f16_of_bits(std::bit_cast<std::uint32_t>(x));
          break;
        case EpilogueType::kBF16:
          static_cast<std::uint16_t*>(job.x)[at] = bf16_of_bits(std::bit_cast<std::uint32_t>(x));
      }
    }
  }
  return EpilogueTarget::kScalar;
}

}  // namespace kv
