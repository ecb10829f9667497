// The encoder's arithmetic of the codec `clp` by the CUDA sources beside the CPU's: the same
// coefficients, and behind them the same stream. Built twice, as int8_dot_cuda_test.cc.
#include "kv/kernels/clp_encode_cuda.hh"

#include "clp_tiles.hh"
#include "kv/codec/clp_forward.hh"
#include "kv/codec/clp_forward_basis.hh"
#include "kv/codec/clp_step.hh"
#include "kv/kernels/int8_dot_cuda.hh"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <limits>
#include <map>
#include <random>

namespace {

namespace device = KV_CUDA_NAMESPACE;
using namespace kv::test;

// The coefficients of a tile whose tokens' steps the CPU has chosen.
std::vector<std::uint8_t> on_device(const kv::TensorCoder& coder,
                                    std::span<const std::uint16_t> rows, std::int64_t tokens,
                                    const std::vector<const kv::TileContext*>& of,
                                    const kv::TileSteps& steps) {
  const kv::TensorProfile& profile = coder.profile();
  const kv::ForwardBasis& basis = coder.forward();
  const std::int64_t stride = kv::stride_of(tokens);
  const std::vector<kv::QuadBlock> context = blocks_of(of);
  const std::optional<kv::Int8Weights> predictor = predictor_of(profile);
  std::vector<float> thresholds;
  for (std::size_t k = 0; k < profile.sigma.size(); ++k) {
    for (int step = -kv::kMostTokenStep; step <= kv::kMostTokenStep; ++step) {
      const int eighths = steps.base + kv::kStepGrid * step;
      thresholds.push_back(
          kv::Classes::get().zero_below(profile.shape[k], profile.sigma[k] - eighths));
    }
  }
  std::vector<std::uint8_t> quads(static_cast<std::size_t>(profile.channels * stride));
  device::CudaClpAnalysis job;
  job.rows = rows;
  job.channels = job.coded = profile.channels, job.tokens = stride;
  job.mean = profile.mean, job.unit = profile.unit, job.inverse_width = basis.inverse_width;
  job.predictor = predictor ? &*predictor : nullptr;
  job.context = context;
  job.high = &*basis.high, job.mixed = &*basis.mixed, job.row_scale = basis.row_scale;
  job.thresholds = thresholds, job.threshold_rows = kv::kThresholds;
  job.quads = quads;
  job.choose = [&](std::span<const std::int32_t> largest, std::span<float> scale,
                   std::span<std::int32_t> row) {
    for (std::size_t t = 0; t < steps.tokens.size(); ++t) {
      const bool exact =
          std::binary_search(steps.exact.begin(), steps.exact.end(), static_cast<std::uint16_t>(t));
      if (largest[t] >= 0x7F800000) CHECK(exact);
      if (exact) continue;
      const double step = kv::step_value(steps.eighths(t));
      CHECK(static_cast<double>(std::bit_cast<float>(largest[t])) / step <= 127.5);
      scale[t] = static_cast<float>(1.0 / step);
      row[t] = steps.tokens[t] + kv::kMostTokenStep;
    }
  };
  device::clp_quantise_cuda(job);
  return quads;
}

void check(std::int64_t tokens, int base) {
  CAPTURE(tokens);
  CAPTURE(base);
  const auto profile = make_profile();
  std::mt19937 random(static_cast<std::uint32_t>(tokens + base));
  Contexts contexts;
  std::size_t other_than_zero = 0;
  for (const kv::TensorProfile& tensor : profile->tensors) {
    const kv::TensorCoder coder(tensor);
    const std::vector<const kv::TileContext*> context = contexts_of(tensor, contexts);
    RandomTile tile(tokens, base, random);
    if (tokens > 40) {  // a token that is not finite, and one of nothing
      tile.rows[17 * kChannels + 3] = 0x7FC0;
      std::fill_n(tile.rows.begin() + 20 * kChannels, kChannels, std::uint16_t{0});
    }
    kv::TileCode code;
    kv::TileContext& decoded = contexts[{tensor.layer, tensor.kind}];
    coder.quantise(context, tile.view(), tile.steps, code, decoded);
    const std::vector<std::uint8_t> got = on_device(coder, tile.rows, tokens, context, code.steps);
    const std::int64_t stride = kv::stride_of(tokens);
    std::vector<std::size_t> place(static_cast<std::size_t>(tokens), SIZE_MAX);
    for (std::size_t i = 0; i < code.plan->order().size(); ++i) place[code.plan->order()[i]] = i;
    std::int64_t wrong = 0;
    for (std::int64_t c = 0; c < kChannels; c += 4) {
      for (std::int64_t t = 0; t < tokens; ++t) {
        for (int i = 0; i < 4; ++i) {
          const int cpu = code.coefficients.quad(c / 4)[4 * t + i];
          const int gpu = got[static_cast<std::size_t>((c / 4 * stride + t) * 4 + i)];
          // What no class codes the CPU leaves out.
          const std::size_t group = place[static_cast<std::size_t>(t)] / kv::kRansLanes;
          if (group >= code.plan->row(c + i).groups) continue;
          wrong += cpu != gpu;
          other_than_zero += cpu != 128;
        }
      }
    }
    CHECK(wrong == 0);
  }
  if (tokens > 1) CHECK(other_than_zero > 0);
}

}  // namespace

TEST_CASE("clp: coefficients from the device are the CPU's") {
  // The CPU takes the 8-bit path only where that is fast; the definition is what all agree with.
  if (!kv::dot_target_is_fast(kv::dot_target())) {
    std::fprintf(stderr, "SKIPPED: this CPU's encoder works in f32\n");
    return;
  }
  check(1, 0);
  check(33, 0);
  check(100, 0);
  check(192, -16);
}

TEST_CASE("clp: sizes that do not fit are refused") {
  const auto profile = make_profile();
  const kv::TensorCoder coder(profile->tensors.front());
  const kv::TileSteps steps{.base = 0, .tokens = std::vector<std::int8_t>(64), .exact = {}};
  const std::vector<std::uint16_t> rows(65 * kChannels);
  CHECK_THROWS_AS(on_device(coder, rows, 64, {}, steps), std::invalid_argument);
  CHECK_THROWS_AS(on_device(coder, std::span(rows).first(5), 64, {}, steps), std::invalid_argument);
}

int main(int argc, char** argv) {
  if (!device::int8_dot_has_cuda()) {
    std::fprintf(stderr, "SKIPPED: no CUDA device, or a build without CUDA\n");
    return 125;
  }
  doctest::Context context(argc, argv);
  return context.run();
}
