#include "cachegen.hh"

#include <cmath>

namespace kv {
namespace {

constexpr float kAnchorMost = 127;

float rms_of(std::span<const float> row, std::span<const float> anchor) {
  double sum = 0;
  for (std::size_t c = 0; c < row.size(); ++c) {
    const double delta = row[c] - anchor[c];
    sum += delta * delta;
  }
  return static_cast<float>(std::sqrt(sum / static_cast<double>(row.size())));
}

}  // namespace

void CacheGenSymbols::quantise(std::span<const float> rows, std::int64_t row_channels, float step) {
  channels = row_channels;
  const auto width = static_cast<std::size_t>(channels);
  tokens = static_cast<std::int64_t>(rows.size() / width);
  anchor_scales.clear();
  delta_scales.clear();
  values.resize(rows.size());
  possible = true;
  std::vector<float> anchor(width);
  for (std::int64_t token = 0; token < tokens; ++token) {
    const std::size_t first = static_cast<std::size_t>(token) * width;
    const std::span<const float> row = rows.subspan(first, width);
    std::int32_t* to = &values[first];
    if (is_anchor(token)) {
      float most = 0;
      for (const float value : row) most = std::max(most, std::fabs(value));
      anchor_scales.push_back(f16_not_below(most / kAnchorMost));
      possible = possible && f16_finite(anchor_scales.back());
      const float scale = f16_value(anchor_scales.back());
      for (std::size_t c = 0; c < width; ++c) {
        to[c] = scale == 0 ? 0 : static_cast<std::int32_t>(std::rint(row[c] / scale));
        anchor[c] = static_cast<float>(to[c]) * scale;
      }
    } else {
      delta_scales.push_back(f16_not_below(rms_of(row, anchor)));
      possible = possible && f16_finite(delta_scales.back());
      const float bin = f16_value(delta_scales.back()) * step;
      for (std::size_t c = 0; c < width; ++c) {
        const float bins = bin == 0 ? 0 : (row[c] - anchor[c]) / bin;
        possible = possible && std::fabs(bins) < 0x1p24f;  // beyond, f32 has no steps
        to[c] = possible ? static_cast<std::int32_t>(std::rint(bins)) : 0;
      }
    }
    if (!possible) return;
  }
}

void CacheGenSymbols::dequantise(std::span<float> rows, float step) const {
  const auto width = static_cast<std::size_t>(channels);
  std::vector<float> anchor(width);
  auto anchor_scale = anchor_scales.begin(), delta_scale = delta_scales.begin();
  for (std::int64_t token = 0; token < tokens; ++token) {
    const std::size_t first = static_cast<std::size_t>(token) * width;
    const std::int32_t* from = &values[first];
    float* row = &rows[first];
    if (is_anchor(token)) {
      const float scale = f16_value(*anchor_scale++);
      for (std::size_t c = 0; c < width; ++c) {
        row[c] = anchor[c] = static_cast<float>(from[c]) * scale;
      }
    } else {
      const float bin = f16_value(*delta_scale++) * step;
      for (std::size_t c = 0; c < width; ++c) {
        row[c] = static_cast<float>(from[c]) * bin + anchor[c];
      }
    }
  }
}

}  // namespace kv
