// Tiles of the codec `clp` decoded by the CUDA sources beside the CPU's decoder: all bits of tokens
// that are not exact. Built twice, as int8_dot_cuda_test.cc.
#include "clp_tiles.hh"
#include "kv/codec/clp_step.hh"
#include "kv/kernels/clp_decode_cuda.hh"
#include "kv/kernels/int8_dot_cuda.hh"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <random>

namespace {

namespace device = KV_CUDA_NAMESPACE;
using namespace kv::test;

const kv::RansTables& tables() {
  static const kv::RansTables built = [] {
    const std::span rows = kv::Classes::get().tables();
    return kv::RansTables(std::vector<std::span<const std::uint16_t>>(rows.begin(), rows.end()));
  }();
  return built;
}

struct Tile {
  const kv::TensorProfile& profile;
  std::int64_t tokens;
  kv::TileCode code;
  std::vector<const kv::TileContext*> context;
};

struct Results {
  std::vector<std::uint8_t> n;
  std::vector<std::byte> x;
  bool intact = false;
};

// What clp_tensor.cc does with a tile, in one call.
Results on_device(const Tile& tile, kv::ByteView stream) {
  const kv::TensorProfile& profile = tile.profile;
  const kv::SymbolPlan& plan = *tile.code.plan;
  const std::int64_t stride = kv::stride_of(tile.tokens);
  std::vector<device::ClpRow> rows;
  for (std::int64_t k = 0; k < profile.channels; ++k) {
    rows.push_back({plan.row(k).first_step, plan.row(k).groups});
  }
  std::vector<device::ClpLowBits> low_bits;
  for (const auto& part : plan.low_bits()) {
    low_bits.push_back({part.first_step, part.steps, part.first_plane, part.bits});
  }
  std::vector<std::uint32_t> planes(plan.planes());
  std::copy(tile.code.planes.begin(), tile.code.planes.end(),
            std::as_writable_bytes(std::span(planes)).begin());
  std::vector<std::int8_t> escapes(tile.code.escapes.size());
  std::copy(tile.code.escapes.begin(), tile.code.escapes.end(),
            std::as_writable_bytes(std::span(escapes)).begin());
  std::vector<std::uint8_t> m(static_cast<std::size_t>(stride), 128);
  std::vector<std::int8_t> s(m.size(), -7);
  for (std::size_t t = 0; t < tile.code.steps.tokens.size(); ++t) {
    const kv::StepFactor factor = kv::step_factor(tile.code.steps.eighths(t));
    m[t] = factor.multiplier, s[t] = factor.shift;
  }
  const std::vector<kv::QuadBlock> context = blocks_of(tile.context);
  const kv::Int8Weights basis(profile.basis, profile.channels, profile.channels);
  const std::optional<kv::Int8Weights> predictor = predictor_of(profile);
  Results results;
  results.n.resize(static_cast<std::size_t>(profile.channels * stride));
  results.x.resize(2 * results.n.size());
  device::CudaClpTile job;
  job.tables = &tables();
  job.stream = stream, job.steps = plan.steps();
  job.rows = rows, job.low_bits = low_bits, job.planes = planes, job.escapes = escapes;
  job.order = plan.order();
  job.predictor = predictor ? &*predictor : nullptr;
  job.context = context;
  job.basis = &basis;
  job.last = {.outputs = profile.channels,
              .tokens = stride,
              .g = profile.gain.data(),
              .m = m.data(),
              .s = s.data(),
              .f = profile.shift.data(),
              .mean = profile.mean.data(),
              .unit = profile.unit.data(),
              .n = results.n.data(),
              .n_stride = stride,
              .x = results.x.data(),
              .x_stride = profile.channels,
              .x_type = kv::EpilogueType::kBF16};
  results.intact = device::clp_decode_cuda(job);
  return results;
}

void check(std::int64_t tokens, int base) {
  CAPTURE(tokens);
  CAPTURE(base);
  const auto profile = make_profile();
  std::mt19937 random(static_cast<std::uint32_t>(tokens + base));
  Contexts contexts;
  std::size_t escapes = 0, planes = 0;
  const std::string place = "test";
  for (const kv::TensorProfile& tensor : profile->tensors) {
    const kv::TensorCoder coder(tensor);
    Tile tile{tensor, tokens, {}, contexts_of(tensor, contexts)};
    const RandomTile made(tokens, base, random);
    kv::TileContext& decoded = contexts[{tensor.layer, tensor.kind}];
    const kv::Bytes data = coder.encode(tile.context, made.view(), 1, made.steps, decoded);
    kv::Bytes out(made.rows.size() * 2);
    coder.begin(tile.context, data, place, tokens, kv::DType::kBF16, tile.code, decoded);
    const kv::CoefficientJob job{&tensor, &tile.code, &place};
    kv::decode_coefficients({&job, 1});
    coder.reconstruct(tile.context, tile.code, {0, tokens}, kv::DType::kBF16, out, decoded);

    const Results results = on_device(tile, tile.code.stream);
    REQUIRE(results.intact);
    const std::int64_t row_bytes = 2 * kChannels;
    for (std::int64_t t = 0; t < tokens; ++t) {
      const auto& exact = tile.code.steps.exact;
      if (std::binary_search(exact.begin(), exact.end(), static_cast<std::uint16_t>(t))) continue;
      CHECK(std::equal(out.begin() + t * row_bytes, out.begin() + (t + 1) * row_bytes,
                       results.x.begin() + t * row_bytes));
      for (std::int64_t c = 0; c < kChannels; c += 4) {
        const std::int64_t at = (c / 4 * kv::stride_of(tokens) + t) * 4;
        CHECK(std::equal(results.n.begin() + at, results.n.begin() + at + 4,
                         decoded.values.quad(0) + at));
      }
    }
    escapes += tile.code.escapes.size();
    planes += tile.code.planes.size();
    kv::Bytes damaged(tile.code.stream.begin(), tile.code.stream.end());
    damaged.back() ^= std::byte{1};
    CHECK_FALSE(on_device(tile, damaged).intact);
  }
  if (tokens > 64 && base <= -16) CHECK(planes > 0);
  if (tokens > 64 && base >= 0) CHECK(escapes > 0);
}

}  // namespace

TEST_CASE("clp: a tile on the device is what the CPU makes of it") {
  check(1, 0);
  check(33, 0);
  check(100, 0);
  check(192, -16);
}

int main(int argc, char** argv) {
  if (!device::int8_dot_has_cuda()) {
    std::fprintf(stderr, "SKIPPED: no CUDA device, or a build without CUDA\n");
    return 125;
  }
  doctest::Context context(argc, argv);
  return context.run();
}
