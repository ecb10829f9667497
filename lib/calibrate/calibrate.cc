#include "kv/calibrate/calibrate.hh"

#include "kv/calibrate/fit.hh"
#include "kv/codec/clp_tensor.hh"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

at::Tensor floats(const Quads& quads, std::int64_t tokens) {
  at::Tensor out = at::empty({tokens, quads.channels()}, at::TensorOptions(at::kFloat));
  float* to = out.mutable_data_ptr<float>();
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t c = 0; c < quads.channels(); ++c) {
      *to++ = static_cast<float>(quads.value(c, t));
    }
  }
  return out;
}

class Calibration {
 public:
  Calibration(const Samples& samples, const CalibrateOptions& options)
      : samples_(samples), options_(options) {
    result_.profile.level = options.level;
    result_.profile.model = samples.meta().model;
    result_.profile.made_from = options.made_from;
  }

  CalibrateResult run() {
    for (const auto& [layer, kind] : order_of(samples_.meta())) {
      tensor(layer, kind);
      if (options_.on_tensor) options_.on_tensor();
    }
    result_.bits = bytes_ * 8.0 / values_;
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

  std::vector<const TileContext*> tiles_of(const TensorProfile& profile, std::size_t window) const {
    std::vector<const TileContext*> tiles;
    for (const ContextSource& source : profile.context) {
      tiles.push_back(&decoded_.at({profile.layer - source.layers_back, source.kind})[window]);
    }
    return tiles;
  }

  FitInput input_of(std::uint32_t layer, format::Kind kind) const {
    FitInput input{.layer = layer, .kind = kind, .context = context_of(layer, kind)};
    std::vector<at::Tensor> values, contexts;
    for (std::size_t w = 0; w < samples_.windows(); ++w) {
      const at::Tensor fitted = coded_rows(steps_of(w, layer, kind));
      values.push_back(floats(samples_.rows(w, layer, kind)).index_select(0, fitted));
      std::vector<at::Tensor> parts;
      for (const ContextSource& source : input.context) {
        const TileContext& tile = decoded_.at({layer - source.layers_back, source.kind})[w];
        parts.push_back(floats(tile.values, samples_.tokens(w)));
      }
      if (!parts.empty()) contexts.push_back(at::cat(parts, 1).index_select(0, fitted));
    }
    input.values = at::cat(values, 0);
    if (!contexts.empty()) input.contexts = at::cat(contexts, 0);
    if (kind == format::Kind::kK) {
      input.metric = safe_metric(samples_.query_metric(layer), options_.metric_epsilon);
    }
    input.step = options_.steps.at({layer, kind});
    return input;
  }

  void tensor(std::uint32_t layer, format::Kind kind) {
    TensorProfile profile = fit_tensor(input_of(layer, kind));
    // Classes go by rounded coefficients, and rounding goes by the classes: twice.
    choose_classes(profile);
    choose_classes(profile);
    std::vector<TileContext>& own = decoded_[{layer, kind}];
    own.resize(samples_.windows());
    const TensorCoder coder(profile);
    for (std::size_t w = 0; w < samples_.windows(); ++w) {
      const TensorView rows = samples_.rows(w, layer, kind);
      const Bytes coded =
          coder.encode(tiles_of(profile, w), rows, 0, steps_of(w, layer, kind), own[w]);
      bytes_ += static_cast<double>(coded.size());
      values_ += static_cast<double>(rows.shape[0] * rows.row_values());
    }
    result_.profile.tensors.push_back(std::move(profile));
    const auto back = static_cast<std::uint32_t>(options_.layers_back);
    std::erase_if(decoded_, [&](const auto& entry) { return entry.first.first + back < layer; });
  }

  TileSteps steps_of(std::size_t window, std::uint32_t layer, format::Kind kind) const {
    TileSteps steps{.tokens = steps_from_importance(samples_.importance(window, layer, kind))};
    steps.exact = exact_tokens(steps.tokens);
    return steps;
  }

  // Tokens that are not stored as they are: the others, sinks, would bend the fit.
  static at::Tensor coded_rows(const TileSteps& steps) {
    std::vector<std::int64_t> rows;
    for (std::size_t t = 0; t < steps.tokens.size(); ++t) {
      if (steps.tokens[t] > kExactStep) rows.push_back(static_cast<std::int64_t>(t));
    }
    return at::tensor(rows);
  }

  void choose_classes(TensorProfile& profile) const {
    CoefficientCounts counts(profile.channels);
    const TensorCoder coder(profile);
    for (std::size_t w = 0; w < samples_.windows(); ++w) {
      const std::int64_t tokens = samples_.tokens(w), stride = (tokens + 63) / 64 * 64;
      const at::Tensor rows =
          floats(samples_.rows(w, profile.layer, profile.kind)).t().contiguous();
      std::vector<float> values(static_cast<std::size_t>(profile.channels * stride));
      for (std::int64_t c = 0; c < profile.channels; ++c) {
        std::copy_n(rows.const_data_ptr<float>() + c * tokens, tokens,
                    values.begin() + static_cast<std::ptrdiff_t>(c * stride));
      }
      const std::vector<float> coefficients =
          coder.transform(values, coder.predict(tiles_of(profile, w), tokens), tokens);
      const TileSteps steps = steps_of(w, profile.layer, profile.kind);
      for (std::int64_t t = 0; t < tokens; ++t) {
        const int step = steps.tokens[static_cast<std::size_t>(t)];
        if (step <= kExactStep) continue;
        const double scale = std::exp2(-0.5 * step);
        for (std::int64_t k = 0; k < profile.channels; ++k) {
          const double value = coefficients[static_cast<std::size_t>(k * stride + t)] * scale;
          counts.add(k, coefficients[static_cast<std::size_t>(k * stride + t)]);
          counts.add(k, step, coder.quantised(k, kStepGrid * step, static_cast<float>(value)));
        }
      }
    }
    counts.choose_classes(profile);
  }

  const Samples& samples_;
  const CalibrateOptions& options_;
  CalibrateResult result_;
  std::map<Key, std::vector<TileContext>> decoded_;  // by window
  double bytes_ = 0, values_ = 0;
};

}  // namespace

CalibrateResult calibrate(const Samples& samples, const CalibrateOptions& options) {
  return Calibration(samples, options).run();
}

StepTable steps_from_rms(const Samples& samples, double share) {
  StepTable steps;
  for (const auto& [layer, kind] : samples.meta().tensors()) {
    std::vector<at::Tensor> all;
    for (std::size_t w = 0; w < samples.windows(); ++w) {
      all.push_back(floats(samples.rows(w, layer, kind)).slice(0, 4));
    }
    const at::Tensor values = at::cat(all, 0);
    const at::Tensor centred = values - values.mean(0);
    steps[{layer, kind}] = share * std::sqrt(centred.square().mean().item<double>());
  }
  return steps;
}

}  // namespace kv
