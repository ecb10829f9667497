#include "int8_dot_targets.hh"

namespace kv {
namespace {

// One sum of output `c` for each token from `token` on.
void multiply_row(const DotFactor& factor, std::int64_t c, std::int64_t token, std::int64_t tokens,
                  std::int32_t* out) {
  for (std::int64_t t = 0; t < tokens; ++t) out[t] = 0;
  const std::int8_t* row = factor.tiles + c / kTileOutputs * factor.input_tiles * kTileBytes +
                           c % kTileOutputs * kTileRowBytes;
  for (std::int64_t i = 0; i < factor.quad_count; ++i) {
    const std::int32_t q = factor.quads[i];
    const std::int8_t* weights = row + q / kTileQuads * kTileBytes + q % kTileQuads * 4;
    const std::uint8_t* x = factor.rows[i] + 4 * token;
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (int k = 0; k < 4; ++k) out[t] += weights[k] * (x[4 * t + k] - 128);
    }
  }
}

}  // namespace

DotTarget dot_scalar(const DotJob& job) {
  if (!job.take) {
    for (std::int64_t c = 0; c < job.outputs; ++c) {
      multiply_row(job.factors[0], c, 0, job.tokens, job.out + c * job.out_stride);
    }
    return DotTarget::kScalar;
  }
  constexpr std::int64_t kOutputs = 8, kTokens = 32;
  std::int32_t sums[kMostDotProducts][kOutputs * kTokens];
  for (std::int64_t t = 0; t < job.tokens; t += kTokens) {
    const std::int64_t tokens = job.tokens - t < kTokens ? job.tokens - t : kTokens;
    for (std::int64_t c = 0; c < job.outputs; c += kOutputs) {
      const std::int64_t outputs = job.outputs - c < kOutputs ? job.outputs - c : kOutputs;
      for (int f = 0; f < job.factor_count; ++f) {
        for (std::int64_t r = 0; r < outputs; ++r) {
          multiply_row(job.factors[f], c + r, t, tokens, sums[f] + r * kTokens);
        }
      }
      job.take(job.state, {{sums[0], sums[1]}, kTokens, c, outputs, t, tokens});
    }
  }
  return DotTarget::kScalar;
}

}  // namespace kv
