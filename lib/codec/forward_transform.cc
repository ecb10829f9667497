#include "forward_transform.hh"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kv/codec/forward_transform.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kv::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Two vectors of tokens by kRows coefficients stay in registers.
template <std::int64_t kRows>
void rows_by_two(const float* matrix, std::int64_t channels, const float* in, std::int64_t stride,
                 float* out) {
  const hn::CappedTag<float, 16> d;
  using V = hn::Vec<decltype(d)>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  V a[kRows], b[kRows];
  for (std::int64_t r = 0; r < kRows; ++r) a[r] = b[r] = hn::Zero(d);
  for (std::int64_t c = 0; c < channels; ++c) {
    const V x = hn::LoadU(d, in + c * stride), y = hn::LoadU(d, in + c * stride + lanes);
    for (std::int64_t r = 0; r < kRows; ++r) {
      const V weight = hn::Set(d, matrix[r * channels + c]);
      a[r] = hn::MulAdd(weight, x, a[r]);
      b[r] = hn::MulAdd(weight, y, b[r]);
    }
  }
  for (std::int64_t r = 0; r < kRows; ++r) {
    hn::StoreU(a[r], d, out + r * stride);
    hn::StoreU(b[r], d, out + r * stride + lanes);
  }
}

void ForwardTransform(const float* matrix, std::int64_t channels, const float* in,
                      std::int64_t tokens, float* out) {
  const hn::CappedTag<float, 16> d;
  const std::int64_t width = 2 * static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t t = 0; t < tokens; t += width) {
    for (std::int64_t k = 0; k < channels; k += 4) {
      rows_by_two<4>(matrix + k * channels, channels, in + t, tokens, out + k * tokens + t);
    }
  }
}

}  // namespace kv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kv {
HWY_EXPORT(ForwardTransform);
void forward_transform(const float* matrix, std::int64_t channels, const float* in,
                       std::int64_t tokens, float* out) {
  HWY_DYNAMIC_DISPATCH(ForwardTransform)(matrix, channels, in, tokens, out);
}
}  // namespace kv
#endif
