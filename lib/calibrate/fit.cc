#include "kv/calibrate/fit.hh"

#include <ATen/TensorOperators.h>
#include <ATen/ops/block_diag.h>
#include <ATen/ops/cholesky_solve.h>
#include <ATen/ops/diag.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_cholesky.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/quantile.h>

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

constexpr double kRidge = 1e-4;      // of the inputs' mean variance
constexpr double kContextSteps = 8;  // the context's unit is this part of a step
constexpr int kWeightLimit = 127;
constexpr int kFreeGain = 4;  // binary places below the basis, where nothing is predicted

// Sums over tokens in f64, by blocks: 60,000 rows in f32 would lose digits.
at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  constexpr std::int64_t kBlock = 4096;
  at::Tensor sum;
  for (std::int64_t first = 0; first < a.size(0); first += kBlock) {
    const std::int64_t count = std::min(kBlock, a.size(0) - first);
    const at::Tensor part =
        at::matmul(a.narrow(0, first, count).t(), b.narrow(0, first, count)).to(at::kDouble);
    sum = sum.defined() ? sum + part : part;
  }
  return sum;
}

struct Prediction {
  at::Tensor weights;  // f64 [channels, inputs]
  at::Tensor mean;     // f64 [channels]: of the values, beside what is predicted
};

Prediction predict(const FitInput& input) {
  const at::Tensor mean = input.values.mean(0, false, at::kDouble);
  if (!input.contexts.defined()) return {{}, mean};
  const at::Tensor input_mean = input.contexts.mean(0, false, at::kDouble);
  const at::Tensor n = input.contexts - input_mean.to(at::kFloat);
  const at::Tensor x = input.values - mean.to(at::kFloat);
  at::Tensor gram = product(n, n);
  gram = gram + at::eye(gram.size(0), gram.options()) * (kRidge * gram.diagonal().mean());
  const at::Tensor weights =
      at::cholesky_solve(product(n, x), at::linalg_cholesky(gram)).t().contiguous();
  return {weights, mean - at::matmul(weights, input_mean)};
}

// From coefficients to values, for a step of 1: f64 [channels, coefficients], widest first.
at::Tensor basis_of(const at::Tensor& rest, const at::Tensor& metric) {
  const at::Tensor covariance = product(rest, rest) / static_cast<double>(rest.size(0));
  if (!metric.defined()) {
    const auto [values, vectors] = at::linalg_eigh(covariance);
    return vectors.flip({1}).contiguous();
  }
  const auto [weights, frame] = at::linalg_eigh(metric);
  const at::Tensor root = at::matmul(frame * weights.sqrt(), frame.t());
  const at::Tensor unroot = at::matmul(frame * weights.rsqrt(), frame.t());
  const auto [values, vectors] = at::linalg_eigh(at::matmul(at::matmul(root, covariance), root));
  return at::matmul(unroot, vectors.flip({1})).contiguous();
}

std::int8_t rounded(double value) {
  return static_cast<std::int8_t>(std::clamp<long>(std::lrint(value), -kWeightLimit, kWeightLimit));
}

double largest(std::span<const double> row) {
  double most = 0;
  for (const double value : row) most = std::max(most, std::fabs(value));
  return most;
}

// A channel's row of the predictor and of the basis on a common unit.
void quantise_channel(TensorProfile& p, std::size_t c, std::span<const double> weights,
                      std::span<const double> basis, double reach) {
  const double most_weight = largest(weights), most_basis = std::max(largest(basis), 1e-30);
  int gain = kFreeGain;
  double unit = most_basis / kWeightLimit / (1 << kFreeGain);
  if (most_weight > 0) {
    unit = most_weight / kWeightLimit;
    gain = 0;
    while (gain < 15 && std::ldexp(unit, gain) * kWeightLimit < most_basis) ++gain;
    unit = std::max(unit, most_basis / kWeightLimit / std::ldexp(1.0, gain));
  }
  p.unit[c] = static_cast<float>(unit);
  p.gain[c] = static_cast<std::int8_t>(gain);
  unit = static_cast<double>(p.unit[c]);
  for (const double weight : weights) p.predictor.push_back(rounded(weight / unit));
  double square = 0;
  for (const double value : basis) {
    p.basis.push_back(rounded(value / std::ldexp(unit, gain)));
    square += value * value;
  }
  const double wanted = std::max(std::sqrt(square) / kContextSteps, reach / kWeightLimit);
  p.shift[c] = static_cast<std::uint8_t>(
      std::clamp(static_cast<int>(std::lround(std::log2(wanted / unit))), 1, 24));
}

std::span<const double> row_of(const at::Tensor& matrix, std::int64_t row) {
  if (!matrix.defined()) return {};
  const std::int64_t width = matrix.size(1);
  return {matrix.const_data_ptr<double>() + row * width, static_cast<std::size_t>(width)};
}

}  // namespace

at::Tensor safe_metric(const at::Tensor& sum, double epsilon) {
  const at::Tensor mean = sum.diagonal(0, 1, 2).mean();
  std::vector<at::Tensor> heads;
  for (std::int64_t head = 0; head < sum.size(0); ++head) {
    const at::Tensor own = sum[head];
    const at::Tensor eye = at::eye(own.size(0), own.options());
    heads.push_back((own + eye * (epsilon * own.diagonal().mean())) / mean);
  }
  return at::block_diag(heads);
}

TensorProfile fit_tensor(const FitInput& input) {
  const std::int64_t channels = input.values.size(1);
  TensorProfile p{
      .layer = input.layer, .kind = input.kind, .channels = channels, .context = input.context};
  p.inputs = input.contexts.defined() ? input.contexts.size(1) : 0;
  const Prediction prediction = predict(input);
  at::Tensor rest = input.values - prediction.mean.to(at::kFloat);
  if (p.inputs > 0) {
    rest = rest - at::matmul(input.contexts, prediction.weights.to(at::kFloat).t());
  }
  const at::Tensor basis = (basis_of(rest, input.metric) * input.step).contiguous();
  // What a context must be able to say: all but a few values in a thousand.
  const at::Tensor centred = (input.values - input.values.mean(0))
                                 .abs()
                                 .narrow(0, 0, std::min<std::int64_t>(16384, input.values.size(0)));
  const at::Tensor reach = at::quantile(centred, 0.999, 0).to(at::kDouble).contiguous();
  const at::Tensor mean = prediction.mean.contiguous();
  p.unit.resize(static_cast<std::size_t>(channels));
  p.gain.resize(p.unit.size());
  p.shift.resize(p.unit.size());
  for (std::int64_t c = 0; c < channels; ++c) {
    p.mean.push_back(static_cast<float>(mean.const_data_ptr<double>()[c]));
    quantise_channel(p, static_cast<std::size_t>(c), row_of(prediction.weights, c),
                     row_of(basis, c), reach.const_data_ptr<double>()[c]);
  }
  p.shape.assign(p.unit.size(), Shape::kBlend);
  p.sigma.assign(p.unit.size(), 0);
  return p;
}

void CoefficientCounts::add(std::int64_t coefficient, int step, int value) {
  Table& table = counts_[static_cast<std::size_t>(coefficient)]
                        [static_cast<std::size_t>(std::clamp(step + kSteps / 2, 0, kSteps - 1))];
  if (table.empty()) table.resize(kValues);
  ++table[static_cast<std::size_t>(value + kValues / 2)];
}

void CoefficientCounts::add(std::int64_t coefficient, double value) {
  Moments& own = moments_[static_cast<std::size_t>(coefficient)];
  own.squares += value * value;
  ++own.count;
}

int CoefficientCounts::deviation(std::size_t coefficient) const {
  const Moments& own = moments_[coefficient];
  const double mean = own.squares / static_cast<double>(std::max<std::uint64_t>(1, own.count));
  return static_cast<int>(std::lround(0.5 * kOctave * std::log2(std::max(mean, 1e-12))));
}

CoefficientCounts::Choice CoefficientCounts::choose(std::size_t coefficient) const {
  struct Entry {
    int step, value;
    double count;
  };
  std::vector<Entry> entries;
  for (int s = 0; s < kSteps; ++s) {
    const Table& table = counts_[coefficient][static_cast<std::size_t>(s)];
    for (std::size_t v = 0; v < table.size(); ++v) {
      if (table[v] > 0) {
        entries.push_back({s - kSteps / 2, static_cast<int>(v) - kValues / 2, double(table[v])});
      }
    }
  }
  constexpr int kAround = 12;  // places of the grid: what a shape can be off its own deviation
  const Classes& classes = Classes::get();
  const int own = std::clamp(deviation(coefficient), -127, kMostSigma);
  Choice best{Shape::kBlend, own, static_cast<std::int64_t>(coefficient)};
  double least = INFINITY;
  for (int shape = 0; shape < kShapes; ++shape) {
    const int narrowest = kLeastCoded[static_cast<std::size_t>(shape)];
    for (int sigma = std::max(narrowest, own - kAround);
         sigma <= std::min(kMostSigma, own + kAround); ++sigma) {
      double bits = 0;
      for (const Entry& entry : entries) {
        bits += entry.count * classes.cost_bits(static_cast<Shape>(shape),
                                                sigma - kOctave / 2 * entry.step, entry.value);
        if (bits >= least) break;
      }
      if (bits >= least) continue;
      least = bits;
      best.shape = static_cast<Shape>(shape);
      best.sigma = sigma;
    }
  }
  // Narrower than any that is coded: its own deviation, for finer steps than the profile's.
  if (own < kLeastCoded[static_cast<std::size_t>(best.shape)] + 2) best.sigma = own;
  return best;
}

void CoefficientCounts::choose_classes(TensorProfile& p) const {
  std::vector<Choice> choices;
  for (std::size_t k = 0; k < counts_.size(); ++k) choices.push_back(choose(k));
  std::stable_sort(choices.begin(), choices.end(),
                   [](const Choice& a, const Choice& b) { return a.sigma > b.sigma; });
  std::vector<std::int8_t> basis(p.basis.size());
  for (std::size_t k = 0; k < choices.size(); ++k) {
    p.shape[k] = choices[k].shape;
    p.sigma[k] = static_cast<std::int8_t>(choices[k].sigma);
    for (std::int64_t c = 0; c < p.channels; ++c) {
      basis[static_cast<std::size_t>(c * p.channels) + k] =
          p.basis[static_cast<std::size_t>(c * p.channels + choices[k].coefficient)];
    }
  }
  p.basis = std::move(basis);
}

}  // namespace kv
