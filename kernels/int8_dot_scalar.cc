#include "int8_dot_targets.hh"

namespace kv {

DotTarget dot_scalar(const DotJob& job) {
  for (std::int64_t c = 0; c < job.outputs; ++c) {
    std::int32_t* out = job.out + c * job.out_stride;
    for (std::int64_t t = 0; t < job.tokens; ++t) out[t] = 0;
    const std::int8_t* row = job.tiles + c / kTileOutputs * job.input_tiles * kTileBytes +
                             c % kTileOutputs * kTileRowBytes;
    for (std::int64_t i = 0; i < job.quad_count; ++i) {
      const std::int32_t q = job.quads[i];
      const std::int8_t* weights = row + q / kTileQuads * kTileBytes + q % kTileQuads * 4;
      for (std::int64_t t = 0; t < job.tokens; ++t) {
        for (int k = 0; k < 4; ++k) out[t] += weights[k] * (job.rows[i][4 * t + k] - 128);
      }
    }
  }
  return DotTarget::kScalar;
}

}  // namespace kv
