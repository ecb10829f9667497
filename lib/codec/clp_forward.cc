#include "clp_forward.hh"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kv/codec/clp_forward.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kv::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
using Ints = hn::CappedTag<std::int32_t, 16>;

#if HWY_TARGET == HWY_SCALAR
void RestByChannel(const RestJob& job) {
  for (std::int64_t c = 0; c < job.channels; ++c) {
    for (std::int64_t t = 0; t < job.tokens; ++t) {
      const float p =
          job.predicted ? static_cast<float>(job.predicted[c * job.predicted_stride + t]) : 0.0f;
      job.out[c * job.tokens + t] = job.rows[t * job.channels + c] - job.mean[c] - p * job.unit[c];
    }
  }
}
#else
// Four tokens by four channels at a time: the rest costs more than wider vectors would save.
void RestByChannel(const RestJob& job) {
  const hn::FixedTag<float, 4> d;
  const hn::FixedTag<std::int32_t, 4> ints;
  const hn::FixedTag<double, 2> pairs;
  const auto low = [&](auto a, auto b) {
    return hn::BitCast(d, hn::InterleaveLower(pairs, hn::BitCast(pairs, a), hn::BitCast(pairs, b)));
  };
  const auto high = [&](auto a, auto b) {
    return hn::BitCast(d, hn::InterleaveUpper(pairs, hn::BitCast(pairs, a), hn::BitCast(pairs, b)));
  };
  for (std::int64_t c = 0; c < job.channels; c += 4) {
    const float* mean = job.mean + c;
    const float* unit = job.unit + c;
    for (std::int64_t t = 0; t < job.tokens; t += 4) {
      const float* row = job.rows + t * job.channels + c;
      const auto r0 = hn::LoadU(d, row), r1 = hn::LoadU(d, row + job.channels);
      const auto r2 = hn::LoadU(d, row + 2 * job.channels);
      const auto r3 = hn::LoadU(d, row + 3 * job.channels);
      const auto a = hn::InterleaveLower(d, r0, r1), b = hn::InterleaveLower(d, r2, r3);
      const auto e = hn::InterleaveUpper(d, r0, r1), f = hn::InterleaveUpper(d, r2, r3);
      const hn::Vec<decltype(d)> of[4] = {low(a, b), high(a, b), low(e, f), high(e, f)};
      for (std::int64_t i = 0; i < 4; ++i) {
        auto rest = hn::Sub(of[i], hn::Set(d, mean[i]));
        if (job.predicted) {
          const auto p = hn::LoadU(ints, job.predicted + (c + i) * job.predicted_stride + t);
          rest = hn::Sub(rest, hn::Mul(hn::ConvertTo(d, p), hn::Set(d, unit[i])));
        }
        hn::StoreU(rest, d, job.out + (c + i) * job.tokens + t);
      }
    }
  }
}
#endif

// Two vectors of tokens by kRows coefficients stay in registers.
template <std::int64_t kRows>
void rows_by_two(const float* matrix, std::int64_t channels, const float* in, std::int64_t stride,
                 float* out) {
  const Floats d;
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
  const Floats d;
  const std::int64_t width = 2 * static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t t = 0; t < tokens; t += width) {
    for (std::int64_t k = 0; k < channels; k += 4) {
      rows_by_two<4>(matrix + k * channels, channels, in + t, tokens, out + k * tokens + t);
    }
  }
}

void LargestBits(const float* coefficients, std::int64_t channels, std::int64_t tokens,
                 std::int32_t* bits) {
  const Ints d;
  const Floats floats;
  const auto mask = hn::Set(d, 0x7FFFFFFF);
  for (std::int64_t t = 0; t < tokens; t += static_cast<std::int64_t>(hn::Lanes(d))) {
    auto most = hn::Zero(d);
    for (std::int64_t k = 0; k < channels; ++k) {
      const auto x = hn::LoadU(floats, coefficients + k * tokens + t);
      most = hn::Max(most, hn::And(hn::BitCast(d, x), mask));
    }
    hn::StoreU(most, d, bits + t);
  }
}

void Quantise(const QuantiseJob& job) {
  const Floats d;
  const Ints ints;
  const hn::CappedTag<std::uint32_t, 16> words;
  const auto most = hn::Set(d, 127.0f), least = hn::Set(d, -127.0f);
  for (std::int64_t t = 0; t < job.tokens; t += static_cast<std::int64_t>(hn::Lanes(d))) {
    const auto scale = hn::LoadU(d, job.scale + t);
    const auto row = hn::LoadU(ints, job.row + t);
    for (std::int64_t k = 0; k < job.channels; k += 4) {
      auto quad = hn::Zero(ints);
      for (std::int64_t i = 4; i-- > 0;) {
        const auto x = hn::Mul(hn::LoadU(d, job.coefficients + (k + i) * job.tokens + t), scale);
        const auto limit = hn::GatherIndex(d, job.thresholds + (k + i) * kThresholds, row);
        const auto kept = hn::IfThenElseZero(hn::Ge(hn::Abs(x), limit), x);
        const auto n = hn::NearestInt(hn::Max(hn::Min(kept, most), least));
        quad = hn::Add(hn::ShiftLeft<8>(quad), hn::Add(n, hn::Set(ints, 128)));
      }
      hn::StoreU(hn::BitCast(words, quad), words,
                 reinterpret_cast<std::uint32_t*>(job.quads + (k / 4 * job.quads_stride + t) * 4));
    }
  }
}

}  // namespace kv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kv {
HWY_EXPORT(RestByChannel);
HWY_EXPORT(ForwardTransform);
HWY_EXPORT(LargestBits);
HWY_EXPORT(Quantise);
void rest_by_channel(const RestJob& job) { HWY_DYNAMIC_DISPATCH(RestByChannel)(job); }
void forward_transform(const float* matrix, std::int64_t channels, const float* in,
                       std::int64_t tokens, float* out) {
  HWY_DYNAMIC_DISPATCH(ForwardTransform)(matrix, channels, in, tokens, out);
}
void largest_bits(const float* coefficients, std::int64_t channels, std::int64_t tokens,
                  std::int32_t* bits) {
  HWY_DYNAMIC_DISPATCH(LargestBits)(coefficients, channels, tokens, bits);
}
void quantise(const QuantiseJob& job) { HWY_DYNAMIC_DISPATCH(Quantise)(job); }
}  // namespace kv
#endif
