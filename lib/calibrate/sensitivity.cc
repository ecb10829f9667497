#include "kv/calibrate/sensitivity.hh"

#include "kv/codec/clp_tensor.hh"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Generator.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/rand.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace kv {
namespace {

// A window of the samples: its cache, the text at its end, and behind that a part of the cache's
// own text once more. What a model reads out of its cache word by word is as much asked of it as
// what comes next, and other tensors do it.
class Probe {
 public:
  Probe(const Session& session, const Samples& samples, std::size_t window,
        std::int64_t continuation)
      : model_(*session.model),
        samples_(samples),
        window_(window),
        continuation_(continuation),
        context_(samples.tokens(window) - continuation),
        cache_(model_.make_cache({.capacity = samples.tokens(window) + continuation})) {
    std::vector<std::int32_t> ids = samples.ids(window);
    const auto again = static_cast<std::size_t>((context_ - continuation) / 3);
    for (std::size_t i = 0; i < static_cast<std::size_t>(continuation); ++i) {
      ids.push_back(ids[again + i]);
    }
    cache_.extend(0, samples.tokens(window) + continuation);
    slots_.resize(static_cast<std::size_t>(2 * continuation));
    std::iota(slots_.begin(), slots_.end(), context_);
    at::Tensor hidden = model_.embed(std::span(ids).subspan(static_cast<std::size_t>(context_)));
    for (std::int64_t layer = 0; layer < layers(); ++layer) {
      for (const CachePart part : {CachePart::kKeys, CachePart::kValues}) restore(layer, part);
      inputs_.push_back(hidden.clone());
      model_.run_layer(layer, hidden, slots_, cache_);
    }
    reference_ = at::log_softmax(model_.logits(hidden), 1);
  }

  // With `noise` [context, channels] added to one tensor: the geometric mean of what it does to the
  // text's end and to the repetition, which it does far more to. Layers must be asked for from the
  // last to the first: each call leaves the rows behind the context changed from its layer on.
  double divergence(std::int64_t layer, CachePart part, const at::Tensor& noise) {
    const TensorView clean = rows(layer, part);
    const at::Tensor noisy = (floats(clean) + noise).contiguous();
    TensorView view = clean;
    view.dtype = DType::kF32;
    view.bytes = {static_cast<const std::byte*>(noisy.const_data_ptr()), noisy.nbytes()};
    cache_.load(layer, part, 0, view);
    at::Tensor hidden = inputs_[static_cast<std::size_t>(layer)].clone();
    for (std::int64_t l = layer; l < layers(); ++l) model_.run_layer(l, hidden, slots_, cache_);
    restore(layer, part);
    const at::Tensor answer = at::log_softmax(model_.logits(hidden), 1);
    const at::Tensor by_token = (reference_.exp() * (reference_ - answer)).sum(1);
    const auto mean = [&](std::int64_t first) {
      return by_token.narrow(0, first, continuation_).mean().item<double>();
    };
    return std::sqrt(std::max(mean(0), 1e-12) * std::max(mean(continuation_), 1e-12));
  }

  std::int64_t context() const { return context_; }
  std::int64_t layers() const { return static_cast<std::int64_t>(model_.config().layers.size()); }

 private:
  TensorView rows(std::int64_t layer, CachePart part) const {
    const format::Kind kind = part == CachePart::kKeys ? format::Kind::kK : format::Kind::kV;
    return samples_.rows(window_, static_cast<std::uint32_t>(layer), kind).tokens(0, context_);
  }
  void restore(std::int64_t layer, CachePart part) {
    cache_.load(layer, part, 0, rows(layer, part));
  }

  const Model& model_;
  const Samples& samples_;
  std::size_t window_;
  std::int64_t continuation_, context_;
  KvCache cache_;
  std::vector<std::int64_t> slots_;
  std::vector<at::Tensor> inputs_;
  at::Tensor reference_;
};

// How far errors of coefficients reach, in the profile's steps, f32 [tokens, coefficients]: over a
// token's step, but never over the coefficient itself; not at all where it is stored as it is.
struct Errors {
  at::Tensor reach;
  double active = 0;  // share of those that a step limits: whose bits a finer step costs
};

Errors errors_of(const TensorProfile& profile, const std::vector<std::int8_t>& steps) {
  const auto tokens = static_cast<std::int64_t>(steps.size());
  std::vector<float> widths;
  for (const std::int8_t place : profile.sigma) {
    widths.push_back(std::exp2(static_cast<float>(place) / float{kOctave}) * std::sqrt(12.0f));
  }
  Errors out{.reach = at::empty({tokens, profile.channels}, at::TensorOptions(at::kFloat))};
  float* to = out.reach.mutable_data_ptr<float>();
  for (const std::int8_t step : steps) {
    const float whole = step > kExactStep ? std::exp2(0.5f * static_cast<float>(step)) : 0;
    for (const float width : widths) {
      *to++ = std::min(whole, width);
      if (whole > 0) out.active += std::min(1.0, std::pow(double{width / whole}, 2));
    }
  }
  out.active /= static_cast<double>(out.reach.numel());
  return out;
}

// Errors alike in all tokens are measured at finer steps: where one token's would ruin all answers,
// they would go on no further at the whole step.
constexpr std::int8_t kFiner = 2;  // half octaves
constexpr double kForFiner = 1 << kFiner;

std::vector<std::int8_t> even_steps(std::size_t tokens) {
  std::vector<std::int8_t> steps(tokens, -kFiner);
  if (!steps.empty()) steps.front() = kExactStep;
  return steps;
}

at::Tensor basis_of(const TensorProfile& profile) {
  const std::int64_t n = profile.channels;
  at::Tensor basis = at::empty({n, n}, at::TensorOptions(at::kFloat));
  float* at = basis.mutable_data_ptr<float>();
  for (std::int64_t c = 0; c < n; ++c) {
    for (std::int64_t k = 0; k < n; ++k) *at++ = static_cast<float>(profile.basis_value(c, k));
  }
  return basis;
}

}  // namespace

StepTable measure_sensitivity(const Session& session, const Samples& samples,
                              const Profile& profile, const SensitivityOptions& options) {
  StepTable sums;
  at::Generator random = at::detail::createCPUGenerator(options.seed);
  const std::size_t windows = std::min(options.windows, samples.fitted());
  for (std::size_t w = 0; w < windows; ++w) {
    const std::int64_t continuation = std::min(options.continuation, samples.tokens(w) / 4);
    Probe probe(session, samples, w, continuation);
    for (auto tensor = profile.tensors.rbegin(); tensor != profile.tensors.rend(); ++tensor) {
      const CachePart part =
          tensor->kind == format::Kind::kK ? CachePart::kKeys : CachePart::kValues;
      const auto importance = samples.importance(w, tensor->layer, tensor->kind);
      const auto context = static_cast<std::size_t>(probe.context());
      const Errors errors =
          errors_of(*tensor, options.even ? even_steps(context)
                                          : steps_from_importance(importance.first(context)));
      const at::Tensor uniform =
          at::rand(errors.reach.sizes(), random, at::TensorOptions(at::kFloat)) - 0.5;
      const at::Tensor noise = at::matmul(uniform * errors.reach, basis_of(*tensor).t());
      sums[{tensor->layer, tensor->kind}] +=
          (options.even ? kForFiner : 1) * probe.divergence(tensor->layer, part, noise) /
          std::max(errors.active, 1e-3) / static_cast<double>(windows);
      if (options.on_tensor) options.on_tensor();
    }
  }
  return sums;
}

int even_step(double divergence, double even) {
  constexpr double kFinest = -48, kCoarsest = 8;
  const double octaves = 0.5 * std::log2(std::max(divergence, 1e-12) / std::max(even, 1e-12));
  return static_cast<int>(std::lround(std::clamp(octaves * kOctave, kFinest, kCoarsest)));
}

StepTable balanced_steps(const StepTable& steps, const StepTable& divergence, double share) {
  double mean = 0;
  for (const auto& entry : divergence) mean += std::log(std::max(entry.second, 1e-12));
  mean /= static_cast<double>(divergence.size());
  StepTable balanced;
  for (const auto& [tensor, step] : steps) {
    const double beside = std::log(std::max(divergence.at(tensor), 1e-12)) - mean;
    balanced[tensor] = share * step * std::exp(-0.5 * beside);
  }
  return balanced;
}

}  // namespace kv
