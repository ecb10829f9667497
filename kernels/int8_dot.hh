#pragma once
// Exact products of 8-bit integers: the inner loop of a decoder whose every bit must be the same on
// every machine. Sums are int32 and cannot overflow, so their order does not matter.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kv {

// Some channels of a run of tokens in quad layout: u8 [channels / 4][stride_tokens][4]. Four
// channels of a token lie together, the tokens of a quad follow one another. A byte is a value +
// 128.
struct QuadBlock {
  const std::uint8_t* data = nullptr;
  std::int64_t channels = 0;       // a positive multiple of 4
  std::int64_t stride_tokens = 0;  // from one quad to the next, at least the tokens given
};

// Quads whose weights follow one another in a tile, from `offset` in each output's row.
struct DotRun {
  std::int32_t offset, quads;
};

// A matrix of weights, packed once for all targets. Immutable, so threads may share it.
class Int8Weights {
 public:
  static constexpr std::int64_t kMaxInputs = 16384;
  static constexpr std::int64_t kMaxOutputs = 1 << 20;

  // `rows` is row-major [outputs][inputs], values -127 to 127. Throws std::invalid_argument for
  // -128, for sizes that do not fit `rows` and for sizes out of 1 to the maximum.
  Int8Weights(std::span<const std::int8_t> rows, std::int64_t outputs, std::int64_t inputs);
  Int8Weights(Int8Weights&&) = default;  // the heap block moves along
  Int8Weights(const Int8Weights&) = delete;

  std::int64_t outputs() const { return outputs_; }
  std::int64_t inputs() const { return inputs_; }
  std::int64_t quads() const { return (inputs_ + 3) / 4; }

  // Tiles of 16 outputs x 64 inputs, [output / 16][input / 64][output % 16][input % 64]; zero where
  // the matrix ends. 64-byte aligned.
  const std::int8_t* tiles() const { return tiles_; }
  std::int64_t output_tiles() const { return (outputs_ + 15) / 16; }
  std::int64_t input_tiles() const { return (inputs_ + 63) / 64; }

  // Sums of the weights of an output and quad, [quads][16 * output_tiles].
  const std::int16_t* quad_sums() const { return quad_sums_.data(); }

  // For products over all quads: their list, its runs, and -128 x the sums of the outputs.
  std::span<const std::int32_t> all_quads() const { return all_quads_; }
  std::span<const DotRun> all_runs() const { return all_runs_; }
  std::span<const std::int32_t> bias() const { return bias_; }

 private:
  std::int64_t outputs_, inputs_;
  std::vector<std::int8_t> storage_;
  std::int8_t* tiles_ = nullptr;  // in storage_
  std::vector<std::int16_t> quad_sums_;
  std::vector<std::int32_t> all_quads_, bias_;
  std::vector<DotRun> all_runs_;
};

// Scalar is the definition; the others give the same bits.
enum class DotTarget { kScalar, kAvx2, kAvxVnni, kAvx512Vnni, kAmx };
const char* dot_target_name(DotTarget target);

// What this machine and this build can run, the fastest first, kScalar last. The first call asks
// the kernel's permission to use AMX for the whole process.
std::span<const DotTarget> dot_targets();

// What all threads use. Whether it multiplies bytes with an instruction of its own, several times
// as fast as f32.
DotTarget dot_target();
bool dot_target_is_fast(DotTarget target);
// For tests and benchmarks: what all threads use from now on; at first it is dot_targets().front().
// Throws std::invalid_argument if it is not one of dot_targets().
void set_dot_target(DotTarget target);

// out[c][t] = sum over k of weight[c][k] * (x[k][t] - 128), overwritten: [outputs][out_stride].
//
// The channels of `blocks`, one after another, are k; there are 4 * weights.quads() of them, and
// those from weights.inputs() on are not used. `tokens` is a multiple of 16. Neither a row of the
// blocks nor of `out` is read or written beyond `tokens`. Throws std::invalid_argument for sizes
// that do not fit. Returns the target that did the work, as that target's code says itself.
DotTarget int8_dot(const Int8Weights& weights, std::span<const QuadBlock> blocks,
                   std::int64_t tokens, std::int32_t* out, std::int64_t out_stride);

// The same sum over some quads only, [4 * q, 4 * q + 4) for each q of `active`, which ascend
// strictly. It is the whole sum where the other quads are all 128.
DotTarget int8_dot_active(const Int8Weights& weights, std::span<const QuadBlock> blocks,
                          std::span<const std::int32_t> active, std::int64_t tokens,
                          std::int32_t* out, std::int64_t out_stride);

// One sum of int8_dot_blocks(): as int8_dot(), over the first `quads` quads only, of the first
// `outputs` outputs.
struct DotProduct {
  const Int8Weights* weights = nullptr;
  std::span<const QuadBlock> blocks;
  std::int64_t quads = 0, outputs = 0;
};
inline constexpr int kMostDotProducts = 2;

// Some outputs and tokens of all products, from multiples of 4 and 16 on: as many outputs as are
// left or a multiple of 4, and a multiple of 16 tokens.
struct DotBlock {
  const std::int32_t* sums[kMostDotProducts];  // [outputs][stride]
  std::int64_t stride;
  std::int64_t output, outputs, token, tokens;
};
using DotTake = void(void* state, const DotBlock& block);

// Sums of one product or two of as many outputs, given to `take` as they come, each once, while
// they are in the first-level cache: most sums are not needed again once they are something else.
// `take` does not throw.
DotTarget int8_dot_blocks(std::span<const DotProduct> products, std::int64_t tokens, DotTake* take,
                          void* state);
template <typename F>
DotTarget int8_dot_blocks(std::span<const DotProduct> products, std::int64_t tokens, F take) {
  return int8_dot_blocks(
      products, tokens,
      [](void* state, const DotBlock& block) { (*static_cast<F*>(state))(block); }, &take);
}

}  // namespace kv
