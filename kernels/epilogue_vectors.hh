#pragma once
// The loop that targets with vectors share: a lane is a token, four outputs at a time. Private to
// the folder; included by one file a target, as int8_dot_vectors.hh.
//
// `V` has: I (kLanes int32), F (kLanes f32) and the functions used below.

#include "epilogue_targets.hh"

namespace kv {
namespace {

template <class V>
struct Epilogue {
  using I = typename V::I;
  using F = typename V::F;

  // m and s of kLanes tokens as one multiplication, one addition and one shift to the right: a << s
  // is a factor, and 32 bits wrap alike.
  struct Scale {
    I factor, round, right;
  };

  static Scale scale_of(const Reconstruction& job, std::int64_t token) {
    alignas(64) std::int32_t factor[V::kLanes], round[V::kLanes], right[V::kLanes];
    for (int i = 0; i < V::kLanes; ++i) {
      const int s = job.s[token + i];
      factor[i] = job.m[token + i] << (s > 0 ? s : 0);
      right[i] = s < 0 ? -s : 0;
      round[i] = s < 0 ? 1 << (-s - 1) : 0;
    }
    return {V::load(factor), V::load(round), V::load(right)};
  }

  static I value_of(const Reconstruction& job, const Scale& scale, std::int64_t c, std::int64_t t) {
    const I gain = V::set(job.g ? job.g[c] : 0);
    const I sum = V::shift_left_each(V::load(job.r + c * job.r_stride + t), gain);
    const I product = V::multiply(sum, scale.factor);
    const I residual = V::shift_right_each(V::add(product, scale.round), scale.right);
    return job.p ? V::add(residual, V::load(job.p + c * job.p_stride + t)) : residual;
  }

  // Four outputs of kLanes tokens.
  template <EpilogueType kType>
  static void quad(const Reconstruction& job, const Scale& scale, std::int64_t c, std::int64_t t) {
    I v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) v[i] = value_of(job, scale, c + i, t);
    if (job.n) {
      I n[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const int f = job.f[c + i];
        n[i] = V::shift_right_each(V::add(v[i], V::set(1 << (f - 1))), V::set(f));
      }
      V::store(job.n + (c / 4 * job.n_stride + t) * 4, V::bytes(n));
    }
    if (!job.x) return;
    F x[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      x[i] =
          V::add(V::set_f(job.mean[c + i]), V::multiply(V::to_f(v[i]), V::set_f(job.unit[c + i])));
    }
    const std::int64_t at = t * job.x_stride + c;
    if constexpr (kType == EpilogueType::kF32) {
      V::store_columns(x, static_cast<float*>(job.x) + at, job.x_stride);
    } else {
      I pairs[2];
      for (int i = 0; i < 2; ++i) {
        pairs[i] = kType == EpilogueType::kF16 ? V::f16_pair(x[2 * i], x[2 * i + 1])
                                               : V::bf16_pair(x[2 * i], x[2 * i + 1]);
      }
      V::store_columns(pairs, static_cast<std::uint16_t*>(job.x) + at, job.x_stride);
    }
  }

  template <EpilogueType kType>
  static void run(const Reconstruction& job) {
    for (std::int64_t t = 0; t < job.tokens; t += V::kLanes) {
      const Scale scale = scale_of(job, t);
      for (std::int64_t c = 0; c < job.outputs; c += 4) quad<kType>(job, scale, c, t);
    }
  }

  static void run(const Reconstruction& job) {
    switch (job.x_type) {
      case EpilogueType::kF32:
        return run<EpilogueType::kF32>(job);
      case EpilogueType::kF16:
        return run<EpilogueType::kF16>(job);
      case EpilogueType::kBF16:
        return run<EpilogueType::kBF16>(job);
    }
  }
};

}  // namespace
}  // namespace kv
