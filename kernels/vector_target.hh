#pragma once
// For loops that are one source, compiled for several targets by Highway's foreach_target.h: which
// of the variants runs. Of Highway only the headers are used; its library, which would choose too,
// takes longer to load than all else that a tool does to start.

#include <span>

namespace kv {

// kBaseline is what the whole program is compiled for.
enum class VectorTarget { kBaseline, kAvx2, kAvx512 };
const char* vector_target_name(VectorTarget target);
// What this machine can run, the fastest first, kBaseline last.
std::span<const VectorTarget> vector_targets();
// For tests and benchmarks: what all threads use from now on. Throws std::invalid_argument if it is
// not one of vector_targets().
void set_vector_target(VectorTarget target);
VectorTarget vector_target();

// The variants of one function; null where the build has none beside the baseline.
template <typename F>
struct VectorVariants {
  F* baseline;
  F* avx2;
  F* avx512;

  F* chosen() const {
    F* wide = vector_target() == VectorTarget::kAvx512 ? avx512
              : vector_target() == VectorTarget::kAvx2 ? avx2
                                                       : nullptr;
    return wide ? wide : baseline;
  }
};

}  // namespace kv

// To stand before <hwy/foreach_target.h>: the targets that only Highway's own choice would use.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
// Under #if HWY_ONCE, in the namespace that has those of the targets.
#define KV_VECTOR_VARIANTS(function)                                                      \
  ::kv::VectorVariants<decltype(HWY_STATIC_DISPATCH(function))> {                         \
    &HWY_STATIC_DISPATCH(function), HWY_CHOOSE_AVX2(function), HWY_CHOOSE_AVX3(function), \
  }
