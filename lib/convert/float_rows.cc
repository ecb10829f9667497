#include "float_rows.hh"

#include "kv/kernels/vector_target.hh"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kv/convert/float_rows.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kv::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// No wider than what kTurnedMultiple allows.
using Floats = hn::CappedTag<float, kTurnedMultiple>;
using Words = hn::RebindToUnsigned<Floats>;
using Ints = hn::RebindToSigned<Floats>;
using Halves = hn::Rebind<std::uint16_t, Floats>;
using Float = hn::Vec<Floats>;
using Word = hn::Vec<Words>;

HWY_INLINE Float f32_of(Word bits) { return hn::BitCast(Floats(), bits); }
HWY_INLINE Word bits_of(Float value) { return hn::BitCast(Words(), value); }
HWY_INLINE Word word(std::uint32_t value) { return hn::Set(Words(), value); }
// Of words below 2^31.
HWY_INLINE Word select_less(Word a, std::uint32_t b, Word yes, Word no) {
  const Ints ints;
  const auto less = hn::Lt(hn::BitCast(ints, a), hn::Set(ints, static_cast<std::int32_t>(b)));
  return hn::IfThenElse(hn::RebindMask(Words(), less), yes, no);
}

HWY_INLINE Word load_words(const std::byte* from) {
  const Halves halves;
  return hn::PromoteTo(Words(), hn::LoadU(halves, reinterpret_cast<const std::uint16_t*>(from)));
}
HWY_INLINE void store_words(Word words, std::byte* to) {
  const Halves halves;
  hn::StoreU(hn::DemoteTo(halves, hn::BitCast(Ints(), words)), halves,
             reinterpret_cast<std::uint16_t*>(to));
}

// What tensor.cc says of one value, and why.
template <DType kType>
struct As;

template <>
struct As<DType::kF32> {
  static constexpr std::size_t kBytes = 4;
  static HWY_INLINE Float load(const std::byte* from) {
    return hn::LoadU(Floats(), reinterpret_cast<const float*>(from));
  }
  static HWY_INLINE void store(Float value, std::byte* to) {
    hn::StoreU(value, Floats(), reinterpret_cast<float*>(to));
  }
};

template <>
struct As<DType::kBF16> {
  static constexpr std::size_t kBytes = 2;
  static HWY_INLINE Float load(const std::byte* from) {
    return f32_of(hn::ShiftLeft<16>(load_words(from)));
  }
  static HWY_INLINE void store(Float value, std::byte* to) {
    const Word bits = bits_of(value), high = hn::ShiftRight<16>(bits);
    const Word odd = hn::And(high, word(1));
    const Word rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(word(0x7FFF), odd)));
    const Word magnitude = hn::And(bits, word(0x7FFFFFFF));
    store_words(select_less(magnitude, 0x7F800001, rounded, hn::Or(high, word(0x40))), to);
  }
};

template <>
struct As<DType::kF16> {
  static constexpr std::size_t kBytes = 2;
  static HWY_INLINE Float load(const std::byte* from) {
    const Word half = load_words(from), magnitude = hn::And(half, word(0x7FFF));
    const Word shifted = hn::ShiftLeft<13>(magnitude);
    const Word usual = bits_of(hn::Mul(f32_of(shifted), f32_of(word(239u << 23))));  // 2^112
    const Word value = select_less(magnitude, 0x7C00, usual, hn::Or(shifted, word(0x7F800000)));
    return f32_of(hn::Or(value, hn::ShiftLeft<16>(hn::And(half, word(0x8000)))));
  }
  static HWY_INLINE void store(Float value, std::byte* to) {
    constexpr std::uint32_t kAnchor = 126u << 23, kFirstNormal = 113u << 23;
    const Word bits = bits_of(value), magnitude = hn::And(bits, word(0x7FFFFFFF));
    const Word subnormal =
        hn::Sub(bits_of(hn::Add(f32_of(magnitude), f32_of(word(kAnchor)))), word(kAnchor));
    const Word odd = hn::And(hn::ShiftRight<13>(magnitude), word(1));
    const Word normal = hn::ShiftRight<13>(
        hn::Add(hn::Sub(magnitude, word(kFirstNormal - (1u << 23))), hn::Add(word(0xFFF), odd)));
    Word half = select_less(magnitude, kFirstNormal, subnormal, normal);
    half = select_less(magnitude, 0x477FF000, half, word(0x7C00));
    half = select_less(magnitude, 0x7F800001, half, word(0x7E00));
    store_words(hn::Or(half, hn::ShiftRight<16>(hn::And(bits, word(0x80000000)))), to);
  }
};

template <DType kFrom, DType kTo>
struct Rows {
  static constexpr std::size_t kFromBytes = As<kFrom>::kBytes, kToBytes = As<kTo>::kBytes;

  static HWY_INLINE void convert(const std::byte* from, std::size_t count, std::byte* to) {
    const std::size_t lanes = hn::Lanes(Floats());
    std::size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
      As<kTo>::store(As<kFrom>::load(from + i * kFromBytes), to + i * kToBytes);
    }
    if (i == count) return;
    alignas(64) std::byte rest[kTurnedMultiple * 4] = {}, out[kTurnedMultiple * 4];
    std::memcpy(rest, from + i * kFromBytes, (count - i) * kFromBytes);
    As<kTo>::store(As<kFrom>::load(rest), out);
    std::memcpy(to + i * kToBytes, out, (count - i) * kToBytes);
  }

  static HWY_INLINE void turn(const std::byte* from, const TurnedRow& row, std::size_t heads,
                              std::byte* to) {
    const Floats floats;
    const std::size_t lanes = hn::Lanes(floats);
    for (std::size_t head = 0; head < heads; ++head) {
      for (std::size_t i = 0; i < row.half; i += lanes) {
        const Float cosine = hn::LoadU(floats, row.cosines + i);
        const Float sine = hn::LoadU(floats, row.sines + i);
        const Float a = As<kFrom>::load(from + i * kFromBytes);
        const Float b = As<kFrom>::load(from + (row.half + i) * kFromBytes);
        As<kTo>::store(hn::Sub(hn::Mul(a, cosine), hn::Mul(b, sine)), to + i * kToBytes);
        As<kTo>::store(hn::Add(hn::Mul(b, cosine), hn::Mul(a, sine)),
                       to + (row.half + i) * kToBytes);
      }
      from += 2 * row.half * kFromBytes;
      to += 2 * row.half * kToBytes;
    }
  }
};

// use(Rows<from, to>) of the two dtypes, one of three each.
template <DType kFrom, typename Use>
HWY_INLINE void with_to(DType to, const Use& use) {
  if (to == DType::kF32) return use(Rows<kFrom, DType::kF32>());
  if (to == DType::kF16) return use(Rows<kFrom, DType::kF16>());
  use(Rows<kFrom, DType::kBF16>());
}
template <typename Use>
HWY_INLINE void with_types(DType from, DType to, const Use& use) {
  if (from == DType::kF32) return with_to<DType::kF32>(to, use);
  if (from == DType::kF16) return with_to<DType::kF16>(to, use);
  with_to<DType::kBF16>(to, use);
}

void convert_values(const std::byte* from, DType from_type, std::size_t count, std::byte* to,
                    DType to_type) {
  with_types(from_type, to_type,
             [&](auto rows) HWY_ATTR { decltype(rows)::convert(from, count, to); });
}

void turn_values(const std::byte* from, DType from_type, const TurnedRow& row, std::size_t heads,
                 std::byte* to, DType to_type) {
  with_types(from_type, to_type,
             [&](auto rows) HWY_ATTR { decltype(rows)::turn(from, row, heads, to); });
}

}  // namespace kv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kv {

bool has_float_rows(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

void convert_floats(ByteView from, DType from_type, std::span<std::byte> to, DType to_type) {
  static const auto variants = KV_VECTOR_VARIANTS(convert_values);
  variants.chosen()(from.data(), from_type, from.size() / dtype_size_bytes(from_type), to.data(),
                    to_type);
}

void turn_floats(ByteView from, DType from_type, const TurnedRow& row, std::span<std::byte> to,
                 DType to_type) {
  static const auto variants = KV_VECTOR_VARIANTS(turn_values);
  const std::size_t heads = from.size() / dtype_size_bytes(from_type) / (2 * row.half);
  variants.chosen()(from.data(), from_type, row, heads, to.data(), to_type);
}

}  // namespace kv
#endif
