#include "clp_forward.hh"

#include "kv/kernels/vector_target.hh"

#include <algorithm>
#include <bit>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kv/codec/clp_forward.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kv::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
using Ints = hn::CappedTag<std::int32_t, 16>;

// Of one channel and as many tokens as `x` has; raises `most` to the bits of the largest.
template <typename V, typename M>
HWY_INLINE void rest_of_vector(const RestJob& job, std::int64_t c, std::int64_t t, V x, M& most) {
  const Floats d;
  const Ints ints;
  auto rest = hn::Sub(x, hn::Set(d, job.mean[c]));
  if (job.predicted) {
    const auto p = hn::LoadU(ints, job.predicted + c * job.predicted_stride + t);
    rest = hn::Sub(rest, hn::Mul(hn::ConvertTo(d, p), hn::Set(d, job.unit[c])));
  }
  if (job.inverse_width) rest = hn::Mul(rest, hn::Set(d, job.inverse_width[c]));
  hn::StoreU(rest, d, job.out + c * job.tokens + t);
  // As bits: NaN is above infinity, and a maximum of floats would lose it.
  most = hn::Max(most, hn::BitCast(ints, hn::Abs(rest)));
}

void rest_of_floats(const RestJob& job) {
  const Floats d;
  const Ints ints;
  const auto* rows = static_cast<const float*>(job.rows);
  const auto every = hn::Mul(hn::Iota(ints, 0), hn::Set(ints, static_cast<int>(job.channels)));
  for (std::int64_t t = 0; t < job.tokens; t += static_cast<std::int64_t>(hn::Lanes(d))) {
    auto most = hn::Zero(ints);
    for (std::int64_t c = 0; c < job.channels; ++c) {
      rest_of_vector(job, c, t, hn::GatherIndex(d, rows + t * job.channels + c, every), most);
    }
    hn::StoreU(most, ints, job.largest + t);
  }
}

#if HWY_TARGET == HWY_SCALAR
void rest_of_halves(const RestJob& job) {
  const Floats d;
  const auto* rows = static_cast<const std::uint16_t*>(job.rows);
  for (std::int64_t t = 0; t < job.tokens; ++t) {
    auto most = hn::Zero(Ints());
    for (std::int64_t c = 0; c < job.channels; ++c) {
      const std::uint32_t bits = std::uint32_t{rows[t * job.channels + c]} << 16;
      rest_of_vector(job, c, t, hn::Set(d, std::bit_cast<float>(bits)), most);
    }
    hn::StoreU(most, Ints(), job.largest + t);
  }
}
#else
// Four channels of a token are 64 bits; of all tokens, the first two channels and the others.
void rest_of_halves(const RestJob& job) {
  const Floats d;
  const Ints ints;
  const hn::Repartition<std::uint32_t, Floats> words;
  const hn::Repartition<std::uint64_t, Floats> fours;
  const hn::Repartition<std::int64_t, Floats> offsets;
  const auto* rows = static_cast<const std::uint16_t*>(job.rows);
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t half = lanes / 2;
  alignas(64) std::int64_t every[8];
  for (std::int64_t i = 0; i < half; ++i) every[i] = 2 * i * job.channels;
  const auto offset = hn::Load(offsets, every);
  const auto upper = hn::Set(words, 0xFFFF0000u);
  for (std::int64_t t = 0; t < job.tokens; t += lanes) {
    auto most = hn::Zero(ints);
    for (std::int64_t c = 0; c < job.channels; c += 4) {
      const auto* at = reinterpret_cast<const std::uint64_t*>(rows + t * job.channels + c);
      const auto* next =
          reinterpret_cast<const std::uint64_t*>(rows + (t + half) * job.channels + c);
      const auto a = hn::BitCast(words, hn::GatherOffset(fours, at, offset));
      const auto b = hn::BitCast(words, hn::GatherOffset(fours, next, offset));
      const auto first = hn::ConcatEven(words, b, a), second = hn::ConcatOdd(words, b, a);
      rest_of_vector(job, c, t, hn::BitCast(d, hn::ShiftLeft<16>(first)), most);
      rest_of_vector(job, c + 1, t, hn::BitCast(d, hn::And(first, upper)), most);
      rest_of_vector(job, c + 2, t, hn::BitCast(d, hn::ShiftLeft<16>(second)), most);
      rest_of_vector(job, c + 3, t, hn::BitCast(d, hn::And(second, upper)), most);
    }
    hn::StoreU(most, ints, job.largest + t);
  }
}
#endif

void RestByChannel(const RestJob& job) {
  if (job.bf16) {
    rest_of_halves(job);
  } else {
    rest_of_floats(job);
  }
}

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

void SplitRest(const SplitJob& job) {
  const Floats d;
  const Ints ints;
  const hn::CappedTag<std::uint32_t, 16> words;
  constexpr float kMost = 127.0f * 128.0f, kLeast = 1e-30f;
  for (std::int64_t t = 0; t < job.tokens; t += static_cast<std::int64_t>(hn::Lanes(d))) {
    const auto bits = hn::LoadU(ints, job.largest + t);
    const auto most = hn::BitCast(d, bits);
    const auto finite = hn::RebindMask(d, hn::Lt(bits, hn::Set(ints, 0x7F800000)));
    const auto usable = hn::And(finite, hn::Gt(most, hn::Set(d, kLeast)));
    const auto scale = hn::IfThenElseZero(usable, hn::Div(most, hn::Set(d, kMost)));
    const auto inverse = hn::IfThenElseZero(usable, hn::Div(hn::Set(d, kMost), most));
    hn::StoreU(hn::IfThenElse(finite, scale, hn::NaN(d)), d, job.scale + t);
    for (std::int64_t c = 0; c < job.channels; c += 4) {
      // All four at once, modulo 2^32: what a lower byte borrows, 128 gives back.
      auto high = hn::Zero(ints), all = hn::Zero(ints);
      for (std::int64_t i = 4; i-- > 0;) {
        const auto x = hn::Mul(hn::LoadU(d, job.rest + (c + i) * job.tokens + t), inverse);
        const auto n = hn::NearestInt(x);
        const auto h = hn::ShiftRight<7>(hn::Add(n, hn::Set(ints, 64)));
        high = hn::Add(hn::ShiftLeft<8>(high), h);
        all = hn::Add(hn::ShiftLeft<8>(all), n);
      }
      const auto low = hn::Sub(all, hn::ShiftLeft<7>(high));
      const auto middle = hn::Set(words, 0x80808080u);
      const std::int64_t at = (c * job.tokens) + 4 * t;
      hn::StoreU(hn::Add(hn::BitCast(words, high), middle), words,
                 reinterpret_cast<std::uint32_t*>(job.high + at));
      hn::StoreU(hn::Add(hn::BitCast(words, low), middle), words,
                 reinterpret_cast<std::uint32_t*>(job.low + at));
    }
  }
}

void JoinSums(const JoinJob& job) {
  const Floats d;
  const Ints ints;
  const auto factor = hn::Set(d, 128.0f);
  for (std::int64_t t = 0; t < job.tokens; t += static_cast<std::int64_t>(hn::Lanes(d))) {
    const auto token_scale = hn::LoadU(d, job.scale + t);
    auto largest = hn::LoadU(ints, job.largest + t);
    for (std::int64_t k = 0; k < job.channels; ++k) {
      const auto high = hn::ConvertTo(d, hn::LoadU(ints, job.high + k * job.stride + t));
      const auto mixed = hn::ConvertTo(d, hn::LoadU(ints, job.mixed + k * job.stride + t));
      const auto sum = hn::Add(hn::Mul(high, factor), mixed);
      const auto x = hn::Mul(sum, hn::Mul(hn::Set(d, job.row_scale[k]), token_scale));
      hn::StoreU(x, d, job.out + k * job.out_stride + t);
      largest = hn::Max(largest, hn::BitCast(ints, hn::Abs(x)));
    }
    hn::StoreU(largest, ints, job.largest + t);
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

// Thresholds of a coefficient for tokens of one step, of steps that lie close together, of any.
enum class Steps { kOne, kClose, kAny };

template <Steps kSteps>
HWY_INLINE void quantise_tokens(const QuantiseJob& job, std::int64_t t, std::int32_t first) {
  const Floats d;
  const Ints ints;
  const hn::CappedTag<std::uint32_t, 16> words;
  const auto most = hn::Set(d, 127.0f), least = hn::Set(d, -127.0f);
  const auto scale = hn::LoadU(d, job.scale + t);
  const auto row = hn::Sub(hn::LoadU(ints, job.row + t), hn::Set(ints, first));
  for (std::int64_t k = 0; k < job.channels; k += 4) {
    auto quad = hn::Zero(ints);
    for (std::int64_t i = 4; i-- > 0;) {
      const auto x = hn::Mul(hn::LoadU(d, job.coefficients + (k + i) * job.tokens + t), scale);
      const float* thresholds = job.thresholds + (k + i) * kThresholds + first;
      auto limit = hn::Set(d, *thresholds);
      if constexpr (kSteps == Steps::kAny) limit = hn::GatherIndex(d, thresholds, row);
      if constexpr (kSteps == Steps::kClose) {
        limit = hn::TableLookupLanes(hn::LoadU(d, thresholds), hn::IndicesFromVec(d, row));
      }
      const auto kept = hn::IfThenElseZero(hn::Ge(hn::Abs(x), limit), x);
      const auto n = hn::NearestInt(hn::Max(hn::Min(kept, most), least));
      quad = hn::Add(hn::ShiftLeft<8>(quad), hn::Add(n, hn::Set(ints, 128)));
    }
    hn::StoreU(hn::BitCast(words, quad), words,
               reinterpret_cast<std::uint32_t*>(job.quads + (k / 4 * job.quads_stride + t) * 4));
  }
}

void Quantise(const QuantiseJob& job) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(Floats()));
  for (std::int64_t t = 0; t < job.tokens; t += lanes) {
    const auto [low, high] = std::minmax_element(job.row + t, job.row + t + lanes);
    if (*low == *high) {
      quantise_tokens<Steps::kOne>(job, t, *low);
    } else if (*high - *low < lanes) {
      quantise_tokens<Steps::kClose>(job, t, *low);
    } else {
      quantise_tokens<Steps::kAny>(job, t, *low);
    }
  }
}

}  // namespace kv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kv {
void rest_by_channel(const RestJob& job) { KV_VECTOR_VARIANTS(RestByChannel).chosen()(job); }
void forward_transform(const float* matrix, std::int64_t channels, const float* in,
                       std::int64_t tokens, float* out) {
  KV_VECTOR_VARIANTS(ForwardTransform).chosen()(matrix, channels, in, tokens, out);
}
void split_rest(const SplitJob& job) { KV_VECTOR_VARIANTS(SplitRest).chosen()(job); }
void join_sums(const JoinJob& job) { KV_VECTOR_VARIANTS(JoinSums).chosen()(job); }
void largest_bits(const float* coefficients, std::int64_t channels, std::int64_t tokens,
                  std::int32_t* bits) {
  KV_VECTOR_VARIANTS(LargestBits).chosen()(coefficients, channels, tokens, bits);
}
void quantise(const QuantiseJob& job) { KV_VECTOR_VARIANTS(Quantise).chosen()(job); }
}  // namespace kv
#endif
