#include "kv/calibrate/fit.hh"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_int_mm.h>
#include <ATen/ops/block_diag.h>
#include <ATen/ops/cholesky_solve.h>
#include <ATen/ops/diag.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_cholesky.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/outer.h>

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

constexpr double kRidge = 1e-4;      // of the inputs' mean variance
constexpr double kContextSteps = 8;  // the context's unit is this part of a step
constexpr int kWeightLimit = 127;
constexpr int kFreeGain = 4;  // binary places below the basis, where nothing is predicted

struct Prediction {
  at::Tensor weights;  // f64 [channels, inputs]
  at::Tensor mean;     // f64 [channels]: of the values, beside what is predicted
  at::Tensor rest;     // f64 [channels, channels]: covariance of what is left
};

Prediction predict(const Moments& m) {
  if (!m.nn.defined()) return {{}, m.x_mean, m.xx};
  const at::Tensor safe =
      m.nn + at::eye(m.nn.size(0), m.nn.options()) * (kRidge * m.nn.diagonal().mean());
  const at::Tensor weights = at::cholesky_solve(m.nx, at::linalg_cholesky(safe)).t().contiguous();
  const at::Tensor known = at::matmul(weights, m.nx);
  const at::Tensor rest =
      m.xx - known - known.t() + at::matmul(at::matmul(weights, m.nn), weights.t());
  return {weights, m.x_mean - at::matmul(weights, m.n_mean), (rest + rest.t()) * 0.5};
}

// From coefficients to values, for a step of 1: f64 [channels, coefficients], widest first.
at::Tensor basis_of(const at::Tensor& covariance, const at::Tensor& metric) {
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

Moments moments_of(const at::Tensor& values, const at::Tensor& contexts) {
  constexpr std::int64_t kBlock = 4096;  // of rows in f32: more would lose digits
  const std::int64_t rows = values.size(0);
  const auto count = static_cast<double>(rows);
  Moments m;
  m.x_mean = values.mean(0, false, at::kDouble);
  const auto add = [](at::Tensor& sum, const at::Tensor& part) {
    sum = sum.defined() ? sum + part : part;
  };
  const at::Tensor about = m.x_mean.to(at::kFloat);
  at::Tensor n_sum, x_rest;
  for (std::int64_t first = 0; first < rows; first += kBlock) {
    const std::int64_t part = std::min(kBlock, rows - first);
    const at::Tensor x = values.narrow(0, first, part) - about;
    add(m.xx, at::matmul(x.t(), x).to(at::kDouble));
    if (!contexts.defined()) continue;
    const at::Tensor n = contexts.narrow(0, first, part);
    const at::Tensor turned = n.t().contiguous();
    // Products of integers, exact.
    add(m.nn, at::_int_mm(turned, n).to(at::kDouble));
    const at::Tensor inputs = turned.to(at::kFloat);
    add(m.nx, at::matmul(inputs, x).to(at::kDouble));
    add(n_sum, inputs.sum(1).to(at::kDouble));
    add(x_rest, x.sum(0, false, at::kDouble));
  }
  m.xx = m.xx / count;
  if (contexts.defined()) {
    m.n_mean = n_sum / count;
    m.nn = m.nn / count - at::outer(m.n_mean, m.n_mean);
    m.nx = m.nx / count - at::outer(m.n_mean, x_rest / count);
  }
  return m;
}

TensorProfile fit_tensor(const FitInput& input) {
  const std::int64_t channels = input.moments.xx.size(0);
  TensorProfile p{
      .layer = input.layer, .kind = input.kind, .channels = channels, .context = input.context};
  p.inputs = input.moments.nn.defined() ? input.moments.nn.size(0) : 0;
  const Prediction prediction = predict(input.moments);
  const at::Tensor basis = (basis_of(prediction.rest, input.metric) * input.step).contiguous();
  const at::Tensor mean = prediction.mean.contiguous();
  p.unit.resize(static_cast<std::size_t>(channels));
  p.gain.resize(p.unit.size());
  p.shift.resize(p.unit.size());
  for (std::int64_t c = 0; c < channels; ++c) {
    p.mean.push_back(static_cast<float>(mean.const_data_ptr<double>()[c]));
    quantise_channel(p, static_cast<std::size_t>(c), row_of(prediction.weights, c),
                     row_of(basis, c), input.reach[static_cast<std::size_t>(c)]);
  }
  p.shape.assign(p.unit.size(), Shape::kBlend);
  p.sigma.assign(p.unit.size(), 0);
  return p;
}

}  // namespace kv
