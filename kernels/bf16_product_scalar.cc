#include "bf16_product_targets.hh"
#include "float_bits.hh"

#include <bit>
#include <cmath>

namespace kv {
namespace {

float value_of(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }
std::uint16_t bits_of(float value) { return bf16_of_bits(std::bit_cast<std::uint32_t>(value)); }

// 0.5 (1 + tanh(u)) = 1 / (1 + e^-2u)
float gelu_slope(float x) { return 1.59576912f * (x + 0.044715f * x * x * x); }

float sum_of(const ProductJob& job, std::int64_t row, std::int64_t panel, std::int64_t place) {
  const std::uint16_t* x = job.x + row * job.x_stride;
  const std::uint16_t* weights =
      job.panels + panel * job.steps * kStepValues + place / 16 * 512 + place % 16 * 2;
  double sum = job.bias ? static_cast<double>(job.bias[panel * kPanelWidth + place]) : 0.0;
  for (std::int64_t step = 0; step < job.steps; ++step, x += 32, weights += kStepValues) {
    for (std::int64_t j = 0; j < 32; ++j) {
      sum += static_cast<double>(value_of(x[j]) * value_of(weights[j / 2 * 32 + j % 2]));
    }
  }
  return static_cast<float>(sum);
}

void end_row(const ProductJob& job, const float* sums, std::int64_t row, std::int64_t panel) {
  auto* floats = static_cast<float*>(job.out) + row * job.out_stride + panel * kPanelWidth;
  auto* bits = static_cast<std::uint16_t*>(job.out) + row * job.out_stride;
  for (std::int64_t i = 0; i < kPanelWidth; ++i) {
    switch (job.end) {
      case ProductEnd::kStore:
        bits[panel * kPanelWidth + i] = bits_of(sums[i]);
        break;
      case ProductEnd::kStoreF32:
        floats[i] = sums[i];
        break;
      case ProductEnd::kAdd:
        floats[i] += sums[i];
        break;
      case ProductEnd::kSiluMul:
        if (i >= 16) break;
        bits[panel * 16 + i] = bits_of(sums[i] / (1 + std::exp(-sums[i])) * sums[i + 16]);
        break;
      case ProductEnd::kGeluMul:
        if (i >= 16) break;
        bits[panel * 16 + i] =
            bits_of(sums[i] / (1 + std::exp(-gelu_slope(sums[i]))) * sums[i + 16]);
        break;
    }
  }
}

}  // namespace

ProductTarget product_scalar(const ProductJob& job) {
  for (std::int64_t panel = job.first_panel; panel < job.end_panel; ++panel) {
    for (std::int64_t row = 0; row < job.rows; ++row) {
      float sums[kPanelWidth];
      for (std::int64_t i = 0; i < kPanelWidth; ++i) sums[i] = sum_of(job, row, panel, i);
      end_row(job, sums, row, panel);
    }
  }
  return ProductTarget::kScalar;
}

}  // namespace kv
