#include "kv/calibrate/calibrate.hh"

#include "kv/calibrate/closed_loop.hh"
#include "kv/calibrate/fit.hh"
#include "kv/codec/clp_tensor.hh"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

// All windows' rows of a tensor, one below the other: no row needs its neighbours.
at::Tensor values_of(const Samples& samples, std::size_t windows, std::uint32_t layer,
                     format::Kind kind) {
  std::vector<at::Tensor> parts;
  for (std::size_t w = 0; w < windows; ++w) parts.push_back(floats(samples.rows(w, layer, kind)));
  return at::cat(parts, 0);
}

class Calibration {
 public:
  Calibration(const Samples& samples, const CalibrateOptions& options)
      : samples_(samples),
        options_(options),
        windows_(options.windows > 0 ? options.windows : samples.fitted()) {
    result_.profile.level = options.level;
    result_.profile.model = samples.meta().model;
    result_.profile.made_from = options.made_from;
  }

  CalibrateResult run() {
    for (const auto& [layer, kind] : order_of(samples_.meta())) {
      tensor(layer, kind);
      if (options_.on_tensor) options_.on_tensor();
    }
    result_.bits = bits_ / values_;
    result_.profile.to_bytes();
    return std::move(result_);
  }

 private:
  using Key = std::pair<std::uint32_t, format::Kind>;

  std::vector<ContextSource> context_of(std::uint32_t layer, format::Kind kind) const {
    std::vector<ContextSource> context;
    const auto since =
        options_.restart > 0 ? layer % static_cast<std::uint32_t>(options_.restart) : layer;
    for (std::uint32_t back = static_cast<std::uint32_t>(options_.layers_back); back > 0; --back) {
      if (back > since) continue;
      for (const format::Kind source : {format::Kind::kK, format::Kind::kV}) {
        if (decoded_.contains({layer - back, source})) {
          context.push_back({static_cast<std::uint8_t>(back), source});
        }
      }
    }
    if (kind == format::Kind::kK) context.push_back({0, format::Kind::kV});
    return context;
  }

  void tensor(std::uint32_t layer, format::Kind kind) {
    FitInput fit{.layer = layer, .kind = kind, .context = context_of(layer, kind)};
    LoopInput loop{.values = values_of(samples_, windows_, layer, kind), .margin = options_.margin};
    for (std::size_t w = 0; w < windows_; ++w) {
      const auto steps = steps_from_importance(samples_.importance(w, layer, kind));
      loop.steps.insert(loop.steps.end(), steps.begin(), steps.end());
    }
    std::vector<at::Tensor> parts;
    for (const ContextSource& source : fit.context) {
      parts.push_back(decoded_.at({layer - source.layers_back, source.kind}));
    }
    if (!parts.empty()) loop.contexts = at::cat(parts, 1);
    const at::Tensor fitted = coded_rows(loop.steps);
    const at::Tensor values = loop.values.index_select(0, fitted);
    fit.moments =
        moments_of(values, parts.empty() ? at::Tensor() : loop.contexts.index_select(0, fitted));
    fit.reach = reach_of(values);
    if (kind == format::Kind::kK) {
      fit.metric = safe_metric(samples_.query_metric(layer), options_.metric_epsilon);
    }
    fit.step = options_.steps.at({layer, kind});
    TensorProfile profile = fit_tensor(fit);
    const LoopResult coded = close_loop(profile, loop);
    bits_ += coded.bits;
    values_ += static_cast<double>(loop.values.numel());
    decoded_[{layer, kind}] = coded.decoded;
    result_.profile.tensors.push_back(std::move(profile));
    const auto back = static_cast<std::uint32_t>(options_.layers_back);
    std::erase_if(decoded_, [&](const auto& entry) { return entry.first.first + back < layer; });
  }

  // Tokens that are not stored as they are: the others, sinks, would bend the fit.
  static at::Tensor coded_rows(const std::vector<std::int8_t>& steps) {
    std::vector<std::int64_t> rows;
    for (std::size_t t = 0; t < steps.size(); ++t) {
      if (steps[t] > kExactStep) rows.push_back(static_cast<std::int64_t>(t));
    }
    return at::tensor(rows);
  }

  // By channel: all but a few of thousand values are no farther from the mean.
  static std::vector<double> reach_of(const at::Tensor& values) {
    constexpr std::int64_t kRows = 4096;
    const std::int64_t channels = values.size(1), rows = values.size(0),
                       stride = std::max<std::int64_t>(1, rows / kRows);
    const at::Tensor mean = values.mean(0);
    const float* from = values.const_data_ptr<float>();
    std::vector<double> reach(static_cast<std::size_t>(channels));
    at::parallel_for(0, channels, 1, [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> beside;
      for (std::int64_t c = begin; c < end; ++c) {
        beside.clear();
        const float middle = mean.const_data_ptr<float>()[c];
        for (std::int64_t t = 0; t < rows; t += stride) {
          beside.push_back(std::fabs(from[t * channels + c] - middle));
        }
        const auto at = beside.end() - 1 - static_cast<std::ptrdiff_t>(beside.size() / 1000);
        std::nth_element(beside.begin(), at, beside.end());
        reach[static_cast<std::size_t>(c)] = *at;
      }
    });
    return reach;
  }

  const Samples& samples_;
  const CalibrateOptions& options_;
  std::size_t windows_;
  CalibrateResult result_;
  std::map<Key, at::Tensor> decoded_;  // i8 [tokens, channels]
  double bits_ = 0, values_ = 0;
};

}  // namespace

CalibrateResult calibrate(const Samples& samples, const CalibrateOptions& options) {
  return Calibration(samples, options).run();
}

StepTable steps_from_rms(const Samples& samples, double share) {
  StepTable steps;
  for (const auto& [layer, kind] : samples.meta().tensors()) {
    std::vector<at::Tensor> all;
    for (std::size_t w = 0; w < samples.fitted(); ++w) {
      all.push_back(floats(samples.rows(w, layer, kind)).slice(0, 4));
    }
    const at::Tensor variance = at::cat(all, 0).var(0, false);
    steps[{layer, kind}] = share * std::sqrt(variance.mean().item<double>());
  }
  return steps;
}

}  // namespace kv
