#include "kv/model/row_ops.hh"

#include <c10/util/BFloat16.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kv/model/row_ops.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Full = hn::ScalableTag<float>;
// Whole vectors, then one by one; both through the same code.
template <typename F>
HWY_INLINE void for_each_vector(std::int64_t n, F&& body) {
  const Full full;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(full));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(full, i);
  for (; i < n; ++i) body(hn::CappedTag<float, 1>(), i);
}

template <class D>
HWY_INLINE hn::VFromD<D> load(D d, const float* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE void store(D d, hn::VFromD<D> v, float* p) {
  hn::StoreU(v, d, p);
}

template <class D>
HWY_INLINE hn::VFromD<D> load(D d, const c10::BFloat16* p) {
  const hn::Rebind<std::uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const std::uint16_t*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}
// To nearest even, as LibTorch rounds.
template <class D>
HWY_INLINE void store(D /*tag*/, hn::VFromD<D> v, c10::BFloat16* p) {
  const hn::RebindToUnsigned<D> d32;
  const hn::RebindToSigned<D> s32;
  const hn::Rebind<std::uint16_t, D> d16;
  const auto bits = hn::BitCast(d32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1));
  const auto rounded = hn::ShiftRight<16>(bits + odd + hn::Set(d32, 0x7fff));
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(s32, rounded)), d16,
             reinterpret_cast<std::uint16_t*>(p));
}

// 2^x for x <= 0, zero below -126. Relative error 2e-8 before rounding, or 1e-4 where the result
// becomes a bf16.
template <bool kCoarse, class D>
HWY_INLINE hn::VFromD<D> exp2_negative(D d, hn::VFromD<D> x) {
  const hn::RebindToSigned<D> di;
  const auto lowest = hn::Set(d, -126.0f);
  const auto clamped = hn::Max(x, lowest);
  const auto magic = hn::Set(d, 12582912.0f);  // 1.5 * 2^23: the integer lands in the low bits
  const auto shifted = clamped + magic;
  const auto f = clamped - (shifted - magic);
  hn::VFromD<D> p;
  if constexpr (kCoarse) {
    p = hn::MulAdd(hn::Set(d, 5.5171669e-2f), f, hn::Set(d, 2.4261466e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 6.9326099e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 9.9992522e-1f));
  } else {
    p = hn::MulAdd(hn::Set(d, 1.5353362e-4f), f, hn::Set(d, 1.3398874e-3f));
    p = hn::MulAdd(p, f, hn::Set(d, 9.6184373e-3f));
    p = hn::MulAdd(p, f, hn::Set(d, 5.5503324e-2f));
    p = hn::MulAdd(p, f, hn::Set(d, 2.4022648e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 6.9314720e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  }
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  return hn::IfThenElseZero(x > lowest, hn::BitCast(d, hn::BitCast(di, p) + exponent));
}

// 1 / rms(x)
template <typename From>
HWY_INLINE float norm_factor(const From* x, double epsilon, std::int64_t n) {
  const Full full;
  auto squares = hn::Zero(full);
  float tail = 0;
  for_each_vector(n, [&](auto d, std::int64_t i) {
    const auto v = load(d, x + i);
    if constexpr (std::is_same_v<decltype(v), const decltype(squares)>) {
      squares = hn::MulAdd(v, v, squares);
    } else {
      tail += hn::GetLane(v * v);
    }
  });
  const float sum = hn::GetLane(hn::SumOfLanes(full, squares)) + tail;
  const float mean = sum / static_cast<float>(n);
  return 1.0f / std::sqrt(mean + static_cast<float>(epsilon));
}

template <typename From, typename T>
void rms_norm(const From* x, const float* weight, double epsilon, std::int64_t n, T* out) {
  const float factor = norm_factor(x, epsilon, n);
  for_each_vector(n, [&](auto d, std::int64_t i) {
    store(d, load(d, x + i) * hn::Set(d, factor) * hn::LoadU(d, weight + i), out + i);
  });
}

template <typename T>
void rotate(const T* x, const float* cos, const float* sin, std::int64_t half, T* out) {
  for_each_vector(half, [&](auto d, std::int64_t i) {
    const auto a = load(d, x + i), b = load(d, x + half + i);
    const auto c = hn::LoadU(d, cos + i), s = hn::LoadU(d, sin + i);
    store(d, a * c - b * s, out + i);
    store(d, b * c + a * s, out + half + i);
  });
}

template <typename T>
void rotate_rows(const T* x, std::int64_t stride, const float* cos, const float* sin,
                 std::int64_t half, std::int64_t count, T* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    rotate(x + i * stride, cos + i * half, sin + i * half, half, out + 2 * i * half);
  }
}

void add_normed(const float* x, const float* weight, double epsilon, std::int64_t n, float* sum) {
  const float factor = norm_factor(x, epsilon, n);
  for_each_vector(n, [&](auto d, std::int64_t i) {
    const auto normed = hn::LoadU(d, x + i) * hn::Set(d, factor) * hn::LoadU(d, weight + i);
    store(d, hn::LoadU(d, sum + i) + normed, sum + i);
  });
}

// g sigmoid(slope(g)) up, with a slope that is odd and has g's sign.
template <typename T, typename F>
HWY_INLINE void gate_mul(const T* gate, const T* up, std::int64_t n, T* out, const F& slope) {
  for_each_vector(n, [&](auto d, std::int64_t i) {
    const auto g = load(d, gate + i);
    // sigmoid(|g|) = 1 / (1 + e) and sigmoid(-|g|) = e / (1 + e): e never overflows.
    const auto e =
        exp2_negative<sizeof(T) == 2>(d, slope(d, hn::Abs(g)) * hn::Set(d, -1.44269504f));
    const auto one = hn::Set(d, 1.0f);
    const auto top = hn::IfThenElse(g < hn::Zero(d), e, one);
    store(d, g * top / (one + e) * load(d, up + i), out + i);
  });
}

template <typename T>
void silu_mul(const T* gate, const T* up, std::int64_t n, T* out) {
  gate_mul(gate, up, n, out, [](auto, auto g) { return g; });
}

// 0.5 (1 + tanh(u)) is sigmoid(2 u).
template <typename T>
void gelu_mul(const T* gate, const T* up, std::int64_t n, T* out) {
  gate_mul(gate, up, n, out, [](auto d, auto g) {
    const auto cube = hn::Set(d, 0.044715f) * g * g * g;
    return hn::Set(d, 1.59576912f) * (g + cube);
  });
}

template <typename T>
void add(const T* x, std::int64_t n, float* sum) {
  for_each_vector(n, [&](auto d, std::int64_t i) {
    store(d, hn::LoadU(d, sum + i) + load(d, x + i), sum + i);
  });
}

template <typename T>
void scale(const float* x, float factor, std::int64_t n, T* out) {
  for_each_vector(
      n, [&](auto d, std::int64_t i) { store(d, load(d, x + i) * hn::Set(d, factor), out + i); });
}

// Minus infinity where the key is behind the row or out of its window.
template <class D>
HWY_INLINE hn::VFromD<D> visible(D d, const SoftmaxBlock& block, std::int32_t position,
                                 const float* scores, std::int64_t i) {
  const auto s = hn::LoadU(d, scores + i);
  if (block.key_positions == nullptr) return s;
  const hn::RebindToSigned<D> di;
  const auto key = hn::LoadU(di, block.key_positions + i);
  const auto row = hn::Set(di, position);
  auto hidden = key > row;
  if (block.window > 0) {
    const auto first = hn::Set(di, static_cast<std::int32_t>(position - block.window));
    hidden = hn::Or(hidden, hn::Not(key > first));
  }
  const auto infinity = hn::Set(d, -std::numeric_limits<float>::infinity());
  return hn::IfThenElse(hn::RebindMask(d, hidden), infinity, s);
}

template <typename T>
void softmax(const SoftmaxBlock& block, const float* scores, std::int32_t position, float& max,
             float& sum, std::int64_t width, float* output, T* probabilities) {
  constexpr bool kCoarse = sizeof(T) == 2;
  const Full d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const float log2e = 1.44269504f * block.scale;
  auto highest = hn::Set(d, max);
  for (std::int64_t i = 0; i < block.keys; i += lanes) {
    highest = hn::Max(highest, visible(d, block, position, scores, i));
  }
  const float new_max = hn::GetLane(hn::MaxOfLanes(d, highest));
  if (new_max > max) {
    const Full one;
    const float factor =
        hn::GetLane(exp2_negative<false>(one, hn::Set(one, (max - new_max) * log2e)));
    sum *= factor;
    for_each_vector(width, [&](auto tag, std::int64_t i) {
      store(tag, hn::LoadU(tag, output + i) * hn::Set(tag, factor), output + i);
    });
    max = new_max;
  }
  const auto slope = hn::Set(d, log2e), offset = hn::Set(d, -new_max * log2e);
  auto total = hn::Zero(d);
  for (std::int64_t i = 0; i < block.keys; i += lanes) {
    const auto s = visible(d, block, position, scores, i);
    const auto p = exp2_negative<kCoarse>(d, hn::MulAdd(s, slope, offset));
    total += p;
    store(d, p, probabilities + i);
  }
  sum += hn::GetLane(hn::SumOfLanes(d, total));
}

// Sums a^2, and a^2 |v - o|^2 from its three products.
void weigh(const WeighedKeys& keys, const WeighingRows& rows) {
  const Full d;
  const hn::RebindToSigned<Full> di;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto before = hn::Set(di, static_cast<std::int32_t>(keys.nearest - 1));
  const auto window = hn::Set(di, keys.window > 0 ? static_cast<std::int32_t>(keys.window)
                                                  : std::numeric_limits<std::int32_t>::max());
  for (std::int64_t i = 0; i < keys.count; i += lanes) {
    const auto positions = hn::LoadU(di, keys.positions + i);
    const auto squares = hn::LoadU(d, keys.squares + i);
    auto key_sums = hn::LoadU(d, keys.key_sums + i), value_sums = hn::LoadU(d, keys.value_sums + i);
    for (std::int64_t row = 0; row < rows.count; ++row) {
      const auto distance = hn::Set(di, rows.positions[row]) - positions;
      const auto counts = hn::And(distance > before, window > distance);
      const auto a = hn::LoadU(d, rows.attention + row * rows.attention_stride + i) *
                     hn::Set(d, rows.inverses[row]);
      const auto weight = hn::IfThenElseZero(hn::RebindMask(d, counts), a * a);
      const auto products = hn::LoadU(d, rows.products + row * keys.count + i);
      const auto apart =
          hn::NegMulAdd(hn::Set(d, 2.0f), products, squares + hn::Set(d, rows.squares[row]));
      value_sums += weight;
      key_sums = hn::MulAdd(weight, hn::Max(apart, hn::Zero(d)), key_sums);
    }
    store(d, key_sums, keys.key_sums + i);
    store(d, value_sums, keys.value_sums + i);
  }
}

template <typename T>
void spread_keys(const T* rows, std::int64_t dim, T* out) {
  constexpr std::int64_t kRows = 16, kTile = 64;
  const hn::CappedTag<std::uint32_t, 16> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t units = dim * static_cast<std::int64_t>(sizeof(T)) / 4;
  const auto* in = reinterpret_cast<const std::uint32_t*>(rows);
  auto* to = reinterpret_cast<std::uint32_t*>(out);
  std::int64_t unit = 0;
  for (; unit + lanes <= units; unit += lanes) {
    alignas(64) std::uint32_t fours[kRows / 4][64];
    for (std::int64_t row = 0; row < kRows; row += 4) {
      const auto at = [&](std::int64_t i) { return hn::LoadU(d, in + (row + i) * units + unit); };
      hn::StoreInterleaved4(at(0), at(1), at(2), at(3), d, fours[row / 4]);
    }
    for (std::int64_t i = 0; i < lanes; ++i) {
      for (std::int64_t four = 0; four < kRows / 4; ++four) {
        std::memcpy(to + (unit + i) * kTile + 4 * four, fours[four] + 4 * i, 16);
      }
    }
  }
  for (; unit < units; ++unit) {
    for (std::int64_t row = 0; row < kRows; ++row) to[unit * kTile + row] = in[row * units + unit];
  }
}

template <typename T>
void pair_values(const T* first, const T* second, std::int64_t dim, T* out) {
  const hn::ScalableTag<std::uint16_t> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto bits = [](const T* row) { return reinterpret_cast<const std::uint16_t*>(row); };
  std::int64_t i = 0;
  for (; i + lanes <= dim; i += lanes) {
    hn::StoreInterleaved2(hn::LoadU(d, bits(first) + i), hn::LoadU(d, bits(second) + i), d,
                          reinterpret_cast<std::uint16_t*>(out) + 2 * i);
  }
  for (; i < dim; ++i) {
    out[2 * i] = first[i];
    out[2 * i + 1] = second[i];
  }
}

template <typename T>
RowOps<T> table() {
  RowOps<T> ops{rms_norm<float, T>,
                rms_norm<T, T>,
                rotate<T>,
                rotate_rows<T>,
                silu_mul<T>,
                gelu_mul<T>,
                add<T>,
                add_normed,
                softmax<T>,
                scale<T>,
                weigh,
                spread_keys<T>,
                nullptr};
  if constexpr (sizeof(T) == 2) ops.pair_values = pair_values<T>;
  return ops;
}
RowOps<float> table_f32() { return table<float>(); }
RowOps<c10::BFloat16> table_bf16() { return table<c10::BFloat16>(); }

}  // namespace kv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kv {
HWY_EXPORT(table_f32);
HWY_EXPORT(table_bf16);

template <>
const RowOps<float>& row_ops<float>() {
  static const RowOps<float> ops = HWY_DYNAMIC_DISPATCH(table_f32)();
  return ops;
}
template <>
const RowOps<c10::BFloat16>& row_ops<c10::BFloat16>() {
  static const RowOps<c10::BFloat16> ops = HWY_DYNAMIC_DISPATCH(table_bf16)();
  return ops;
}
}  // namespace kv
#endif
