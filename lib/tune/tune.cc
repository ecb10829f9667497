#include "kv/tune/tune.hh"

#include "kv/base/error.hh"
#include "kv/base/hash.hh"
#include "kv/model/torch_guard.hh"
#include "tune_state.hh"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace kv {
namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8;

std::int64_t tokens_of(const TrainingText& text) { return std::ssize(text.ids) - 1; }

// Texts that go through the model together.
std::vector<std::vector<const TrainingText*>> parts_of(
    const std::vector<const TrainingText*>& texts, std::int64_t most_tokens) {
  std::vector<std::vector<const TrainingText*>> parts;
  std::int64_t tokens = 0;
  for (const TrainingText* text : texts) {
    if (parts.empty() || tokens + tokens_of(*text) > most_tokens) {
      parts.emplace_back();
      tokens = 0;
    }
    parts.back().push_back(text);
    tokens += tokens_of(*text);
  }
  return parts;
}

void check(const TuneOptions& options, const std::vector<TrainingText>& texts) {
  if (texts.empty()) fail_usage("nothing to learn from");
  if (options.steps < 1) fail_usage("--steps {}: must be 1 or more", options.steps);
  if (options.batch < 1) fail_usage("--batch 0: must be 1 or more");
  if (!(options.learning_rate > 0)) fail_usage("--lr: must be over 0");
  if (options.warmup > options.steps) {
    fail_usage("--warmup {}: more than the {} steps", options.warmup, options.steps);
  }
}

}  // namespace

double learning_rate(const TuneOptions& options, std::int64_t step) {
  const std::int64_t warmup = options.warmup < 0 ? options.steps / 10 : options.warmup;
  if (step < warmup) {
    return options.learning_rate * static_cast<double>(step + 1) / static_cast<double>(warmup);
  }
  const double share = static_cast<double>(step - warmup) /
                       static_cast<double>(std::max<std::int64_t>(options.steps - warmup, 1));
  const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * share));
  return options.learning_rate * (options.final_share + (1 - options.final_share) * cosine);
}

Tuner::Tuner(LoraModel& model, const std::vector<TrainingText>& texts, const TuneOptions& options) {
  check(options, texts);
  guarded([&] {
    const at::NoGradGuard no_grad;
    state_ = std::make_unique<State>(model, texts, options);
    for (LoraPair& pair : model.pairs()) {
      for (at::Tensor* tensor : {&pair.a, &pair.b}) {
        state_->moments.push_back({*tensor, at::zeros_like(*tensor), at::zeros_like(*tensor)});
      }
    }
  });
}

Tuner::~Tuner() = default;

std::int64_t Tuner::done() const { return state_->done; }

TuneStep Tuner::step() {
  return guarded([&] {
    State& s = *state_;
    TuneStep report{.step = s.done + 1, .rate = learning_rate(s.options, s.done)};
    std::vector<const TrainingText*> texts;
    for (const std::size_t index : s.order.batch(s.done)) {
      texts.push_back(&s.texts[index]);
      report.tokens += tokens_of(*texts.back());
      report.targets += texts.back()->targets();
    }
    for (State::Moments& each : s.moments) each.value.mutable_grad().reset();
    for (const auto& part : parts_of(texts, s.options.microbatch_tokens)) {
      const at::Tensor loss = s.model.loss(part) / static_cast<double>(report.targets);
      loss.backward();
      report.loss += loss.item<double>();
    }
    s.update(report);
    if (!std::isfinite(report.loss) || !std::isfinite(report.norm)) {
      fail_input("step {}: the loss is not finite any more; try a smaller --lr", report.step);
    }
    ++s.done;
    return report;
  });
}

void Tuner::State::update(TuneStep& report) {
  const at::NoGradGuard no_grad;
  double squares = 0;
  for (const Moments& each : moments) {
    if (each.value.grad().defined()) squares += each.value.grad().square().sum().item<double>();
  }
  report.norm = std::sqrt(squares);
  const bool clipped = options.clip > 0 && report.norm > options.clip;
  const double by = clipped ? options.clip / report.norm : 1;
  const double t = static_cast<double>(done + 1);
  const double first = 1 - std::pow(kBeta1, t), second = 1 - std::pow(kBeta2, t);
  for (Moments& each : moments) {
    if (!each.value.grad().defined()) continue;
    const at::Tensor gradient = each.value.grad() * by;
    each.mean.mul_(kBeta1).add_(gradient, 1 - kBeta1);
    each.square.mul_(kBeta2).addcmul_(gradient, gradient, 1 - kBeta2);
    each.value.mul_(1 - report.rate * options.weight_decay);
    each.value.addcdiv_(each.mean / first, (each.square / second).sqrt() + kEpsilon, -report.rate);
  }
}

double mean_loss(const LoraModel& model, const std::vector<TrainingText>& texts,
                 std::int64_t microbatch_tokens) {
  return guarded([&] {
    const at::NoGradGuard no_grad;
    std::vector<const TrainingText*> all;
    std::int64_t targets = 0;
    for (const TrainingText& text : texts) {
      all.push_back(&text);
      targets += text.targets();
    }
    double sum = 0;
    for (const auto& part : parts_of(all, microbatch_tokens)) {
      sum += model.loss(part).item<double>();
    }
    return targets > 0 ? sum / static_cast<double>(targets) : 0;
  });
}

}  // namespace kv
