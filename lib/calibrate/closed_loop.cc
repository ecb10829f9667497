#include "kv/calibrate/closed_loop.hh"

#include "kv/calibrate/coefficient_classes.hh"
#include "kv/codec/clp_tensor.hh"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/_int_mm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linalg_inv.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

constexpr int kMostCoefficient = 127;
constexpr std::int64_t kCountedRows = 8192;  // that classes are chosen by
constexpr std::int64_t kGrain = 256;         // rows a thread takes at least

// Without a call of the C library, so that compilers make it wide: for |value| below 2^22.
float nearest(float value) {
  constexpr float kMagic = 12582912.0f;
  return (value + kMagic) - kMagic;
}

at::Tensor weights_of(const std::vector<std::int8_t>& weights, std::int64_t rows) {
  const auto columns = static_cast<std::int64_t>(weights.size()) / rows;
  return at::from_blob(const_cast<std::int8_t*>(weights.data()), {rows, columns},
                       at::TensorOptions(at::kChar))
      .t()
      .contiguous();
}

class Loop {
 public:
  Loop(TensorProfile& profile, const LoopInput& input)
      : profile_(profile),
        input_(input),
        tokens_(input.values.size(0)),
        channels_(profile.channels),
        choices_(static_cast<std::size_t>(channels_)) {}

  LoopResult run() {
    predict();
    const at::Tensor coefficients = transform();
    choose_classes(coefficients);
    for (ClassChoice& choice : choices_) {
      choice.sigma = std::min(choice.sigma + input_.margin, kMostSigma);
    }
    const at::Tensor decoded = reconstruct(quantise(coefficients));
    set_classes(profile_, choices_);
    return {decoded, bits_};
  }

 private:
  bool exact(std::int64_t token) const {
    return input_.steps[static_cast<std::size_t>(token)] <= kExactStep;
  }
  int step(std::int64_t token) const { return input_.steps[static_cast<std::size_t>(token)]; }

  // In units of the channels.
  void predict() {
    predicted_ = profile_.inputs > 0
                     ? at::_int_mm(input_.contexts, weights_of(profile_.predictor, channels_))
                     : at::zeros({tokens_, channels_}, at::TensorOptions(at::kInt));
  }

  // At the profile's own step.
  at::Tensor transform() const {
    at::Tensor basis = at::empty({channels_, channels_}, at::TensorOptions(at::kDouble));
    double* at = basis.mutable_data_ptr<double>();
    for (std::int64_t c = 0; c < channels_; ++c) {
      for (std::int64_t k = 0; k < channels_; ++k) *at++ = profile_.basis_value(c, k);
    }
    at::Tensor rest = at::empty_like(input_.values);
    const float* values = input_.values.const_data_ptr<float>();
    const std::int32_t* sums = predicted_.const_data_ptr<std::int32_t>();
    float* to = rest.mutable_data_ptr<float>();
    at::parallel_for(0, tokens_, kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        for (std::int64_t c = 0; c < channels_; ++c) {
          const auto channel = static_cast<std::size_t>(c);
          const std::int64_t i = t * channels_ + c;
          to[i] = values[i] - profile_.mean[channel] -
                  static_cast<float>(sums[i]) * profile_.unit[channel];
        }
      }
    });
    return at::matmul(rest, at::linalg_inv(basis).to(at::kFloat).t());
  }

  // By step, half octaves: below what a coefficient is 0.
  std::vector<float> thresholds(int step) const {
    std::vector<float> out;
    for (const ClassChoice& choice : choices_) {
      out.push_back(Classes::get().zero_below(choice.shape, choice.sigma - kStepGrid * step));
    }
    return out;
  }

  void quantise_row(const float* from, int step, const std::vector<float>& zero_below,
                    std::int8_t* to) const {
    const float scale = std::exp2(-0.5f * static_cast<float>(step));
    for (std::int64_t k = 0; k < channels_; ++k) {
      const float value =
          std::clamp(from[k] * scale, -float{kMostCoefficient}, float{kMostCoefficient});
      const bool zero = std::fabs(value) < zero_below[static_cast<std::size_t>(k)];
      to[k] = zero ? std::int8_t{0} : static_cast<std::int8_t>(nearest(value));
    }
  }

  using ByStep = std::array<std::vector<float>, 2 * kMostTokenStep + 1>;
  ByStep all_thresholds() const {
    ByStep by_step;
    for (int s = -kMostTokenStep; s <= kMostTokenStep; ++s) {
      by_step[static_cast<std::size_t>(s + kMostTokenStep)] = thresholds(s);
    }
    return by_step;
  }

  // Classes go by rounded coefficients, and rounding goes by the classes: twice.
  void choose_classes(const at::Tensor& coefficients) {
    const float* from = coefficients.const_data_ptr<float>();
    std::vector<std::int64_t> rows;
    const std::int64_t stride = std::max<std::int64_t>(1, tokens_ / kCountedRows);
    for (std::int64_t t = 0; t < tokens_; t += stride) {
      if (!exact(t)) rows.push_back(t);
    }
    CoefficientCounts counts(channels_);
    const auto each = [&](auto&& use) {
      at::parallel_for(0, channels_, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t k = begin; k < end; ++k) use(k);
      });
    };
    each([&](std::int64_t k) {
      double squares = 0;
      for (const std::int64_t t : rows) {
        const double value = from[t * channels_ + k];
        squares += value * value;
      }
      counts.set_mean_square(k,
                             squares / static_cast<double>(std::max<std::size_t>(1, rows.size())));
      choices_[static_cast<std::size_t>(k)] = counts.first(k);
    });
    std::vector<std::int8_t> rounded(rows.size() * static_cast<std::size_t>(channels_));
    for (int round = 0; round < 2; ++round) {
      const ByStep zero_below = all_thresholds();
      for (std::size_t i = 0; i < rows.size(); ++i) {
        quantise_row(from + rows[i] * channels_, step(rows[i]),
                     zero_below[static_cast<std::size_t>(step(rows[i]) + kMostTokenStep)],
                     rounded.data() + i * static_cast<std::size_t>(channels_));
      }
      counts.clear_counts();
      each([&](std::int64_t k) {
        for (std::size_t i = 0; i < rows.size(); ++i) {
          counts.add(
              k, step(rows[i]),
              rounded[i * static_cast<std::size_t>(channels_) + static_cast<std::size_t>(k)]);
        }
        choices_[static_cast<std::size_t>(k)] = counts.choose(k);
      });
    }
    double bits = 0;
    for (const ClassChoice& choice : choices_) bits += choice.bits;
    std::int64_t kept = 0;
    for (std::int64_t t = 0; t < tokens_; ++t) kept += exact(t) ? 1 : 0;
    constexpr double kBitsOfExact = 16;
    bits_ = bits / static_cast<double>(std::max<std::size_t>(1, rows.size())) *
                static_cast<double>(tokens_ - kept) +
            kBitsOfExact * static_cast<double>(kept * channels_);
  }

  at::Tensor quantise(const at::Tensor& coefficients) const {
    at::Tensor out = at::empty({tokens_, channels_}, at::TensorOptions(at::kChar));
    const float* from = coefficients.const_data_ptr<float>();
    std::int8_t* to = out.mutable_data_ptr<std::int8_t>();
    const ByStep zero_below = all_thresholds();
    at::parallel_for(0, tokens_, kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        const int own = std::max(step(t), -kMostTokenStep);
        quantise_row(from + t * channels_, own,
                     zero_below[static_cast<std::size_t>(own + kMostTokenStep)],
                     to + t * channels_);
      }
    });
    return out;
  }

  // As a decoder, to an eighth of a step or so: what later tensors see.
  at::Tensor reconstruct(const at::Tensor& rounded) const {
    const at::Tensor product = at::_int_mm(rounded, weights_of(profile_.basis, channels_));
    at::Tensor out = at::empty({tokens_, channels_}, at::TensorOptions(at::kChar));
    const std::int32_t* added = product.const_data_ptr<std::int32_t>();
    const std::int32_t* sums = predicted_.const_data_ptr<std::int32_t>();
    const float* values = input_.values.const_data_ptr<float>();
    std::int8_t* to = out.mutable_data_ptr<std::int8_t>();
    std::vector<float> gain, per_unit, per_value;
    for (std::size_t c = 0; c < profile_.unit.size(); ++c) {
      gain.push_back(std::ldexp(1.0f, profile_.gain[c]));
      per_unit.push_back(std::ldexp(1.0f, -profile_.shift[c]));
      per_value.push_back(per_unit.back() / profile_.unit[c]);
    }
    at::parallel_for(0, tokens_, kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        const float scale = std::exp2(0.5f * static_cast<float>(step(t)));
        const bool kept = exact(t);
        for (std::int64_t c = 0; c < channels_; ++c) {
          const auto channel = static_cast<std::size_t>(c);
          const std::int64_t i = t * channels_ + c;
          const float near = kept ? (values[i] - profile_.mean[channel]) * per_value[channel]
                                  : (static_cast<float>(sums[i]) +
                                     static_cast<float>(added[i]) * gain[channel] * scale) *
                                        per_unit[channel];
          to[i] = static_cast<std::int8_t>(nearest(std::clamp(near, -127.0f, 127.0f)));
        }
      }
    });
    return out;
  }

  TensorProfile& profile_;
  const LoopInput& input_;
  std::int64_t tokens_, channels_;
  at::Tensor predicted_;  // i32 [tokens, channels]
  std::vector<ClassChoice> choices_;
  double bits_ = 0;
};

}  // namespace

LoopResult close_loop(TensorProfile& profile, const LoopInput& input) {
  return Loop(profile, input).run();
}

}  // namespace kv
