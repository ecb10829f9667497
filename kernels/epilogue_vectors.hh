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
    const I zero = V::set(0), one = V::set(1);
    const I s = V::load_shifts(job.s + token);
    const I right = V::most(V::subtract(zero, s), zero);
    // A shift by what is no count gives 0, as it should where nothing is shifted to the right.
    return {V::shift_left_each(V::load_multipliers(job.m + token), V::most(s, zero)),
            V::shift_left_each(one, V::subtract(right, one)), right};
  }

  // Numbers of four outputs, in all lanes.
  struct Outputs {
    I gain[4], half[4], shift[4];
    F mean[4], unit[4];
  };

  static Outputs outputs_at(const Reconstruction& job, std::int64_t c) {
    Outputs out;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      out.gain[i] = V::set(job.g ? job.g[c + i] : 0);
      out.half[i] = V::set(1 << (job.f[c + i] - 1));
      out.shift[i] = V::set(job.f[c + i]);
      out.mean[i] = V::set_f(job.mean[c + i]);
      out.unit[i] = V::set_f(job.unit[c + i]);
    }
    return out;
  }

  // Four outputs of kLanes tokens.
  template <EpilogueType kType>
  static void quad(const Reconstruction& job, const Outputs& of, const Scale& scale, std::int64_t c,
                   std::int64_t t) {
    I v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const I sum = V::shift_left_each(V::load(job.r + (c + i) * job.r_stride + t), of.gain[i]);
      const I product = V::multiply(sum, scale.factor);
      v[i] = V::shift_right_each(V::add(product, scale.round), scale.right);
      if (job.p) v[i] = V::add(v[i], V::load(job.p + (c + i) * job.p_stride + t));
    }
    if (job.n) {
      I n[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        n[i] = V::shift_right_each(V::add(v[i], of.half[i]), of.shift[i]);
      }
      V::store(job.n + (c / 4 * job.n_stride + t) * 4, V::bytes(n));
    }
    if (!job.x) return;
    F x[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      x[i] = V::add(of.mean[i], V::multiply(V::to_f(v[i]), of.unit[i]));
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
    constexpr int kMostScales = 8;
    Scale scales[kMostScales];
    for (std::int64_t first = 0; first < job.tokens; first += kMostScales * V::kLanes) {
      const std::int64_t left = (job.tokens - first) / V::kLanes;
      const std::int64_t count = left < kMostScales ? left : kMostScales;
      for (std::int64_t i = 0; i < count; ++i) scales[i] = scale_of(job, first + i * V::kLanes);
      for (std::int64_t c = 0; c < job.outputs; c += 4) {
        const Outputs of = outputs_at(job, c);
        for (std::int64_t i = 0; i < count; ++i) {
          quad<kType>(job, of, scales[i], c, first + i * V::kLanes);
        }
      }
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
