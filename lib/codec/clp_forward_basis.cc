#include "clp_forward_basis.hh"

#include <Eigen/LU>

#include <algorithm>
#include <cmath>

namespace kv {

ForwardBasis::ForwardBasis(const TensorProfile& profile) {
  // In f32: the rest of an encoder is no more exact, and a file has a hundred of them to invert.
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const std::int64_t n = profile.channels;
  Matrix basis(n, n);
  std::copy_n(profile.basis.begin(), n * n, basis.data());
  const Matrix matrix = basis.partialPivLu().inverse();
  for (std::int64_t k = 0; k < n; ++k) {
    for (std::int64_t c = 0; c < n; ++c) {
      const auto at = static_cast<std::size_t>(c);
      const float value = matrix(k, c) / std::ldexp(profile.unit[at], profile.gain[at]);
      rows.push_back(std::isfinite(value) ? value : 0.0f);
    }
  }
  split(profile);
}

void ForwardBasis::split(const TensorProfile& profile) {
  const auto n = static_cast<std::size_t>(profile.channels);
  constexpr float kMost = 127.0f * 128.0f;
  std::vector<double> energy;
  for (const std::int8_t sigma : profile.sigma) energy.push_back(std::exp2(sigma / 4.0));
  std::vector<float> width(n);
  for (std::size_t c = 0; c < n; ++c) {
    double square = 0;
    for (std::size_t k = 0; k < n; ++k) {
      const double weight = profile.basis[c * n + k];
      square += weight * weight * energy[k];
    }
    const auto of_channel =
        static_cast<float>(std::ldexp(profile.unit[c], profile.gain[c]) * std::sqrt(square));
    width[c] = of_channel > 1e-20f && of_channel < 1e20f ? of_channel : 1.0f;
    inverse_width.push_back(1.0f / width[c]);
  }
  std::vector<std::int8_t> of_high(n * n), of_mixed(2 * n * n);
  for (std::size_t k = 0; k < n; ++k) {
    const auto value = [&](std::size_t c) { return rows[k * n + c] * width[c]; };
    float most = 0;
    for (std::size_t c = 0; c < n; ++c) most = std::max(most, std::fabs(value(c)));
    const bool usable = most > 1e-30f && most < 1e30f;
    row_scale.push_back(usable ? 128.0f * most / kMost : 0.0f);
    for (std::size_t c = 0; c < n && usable; ++c) {
      const auto whole = static_cast<int>(std::lrint(value(c) / most * kMost));
      const int upper = (whole + 64) >> 7;
      of_high[k * n + c] = of_mixed[2 * k * n + n + c] = static_cast<std::int8_t>(upper);
      of_mixed[2 * k * n + c] = static_cast<std::int8_t>(whole - 128 * upper);
    }
  }
  high.emplace(of_high, profile.channels, profile.channels);
  mixed.emplace(of_mixed, profile.channels, 2 * profile.channels);
}

}  // namespace kv
