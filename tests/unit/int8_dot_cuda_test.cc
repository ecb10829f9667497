// The CUDA twins against the scalar code. Built twice: with KV_CUDA_SHIM the kernels' own source
// runs on fibers of the CPU; without, on a GPU, and is skipped (125) where there is none.
#include "kv/kernels/int8_dot_cuda.hh"

#include <doctest/doctest.h>

#include <cstdio>
#include <random>
#include <stdexcept>
#include <vector>

namespace {

namespace device = KV_CUDA_NAMESPACE;

struct Case {
  std::int64_t outputs, inputs, tokens;
  std::vector<std::int64_t> channels;
  std::int64_t spare;  // of the strides
  std::vector<std::int32_t> active;
  bool extreme = false;
};

void check(const Case& c) {
  CAPTURE(c.outputs);
  CAPTURE(c.inputs);
  CAPTURE(c.tokens);
  std::mt19937 random(9);
  std::vector<std::int8_t> rows;
  for (std::int64_t i = 0; i < c.outputs * c.inputs; ++i) {
    rows.push_back(
        static_cast<std::int8_t>(c.extreme ? 127 : static_cast<int>(random() % 255) - 127));
  }
  const kv::Int8Weights weights(rows, c.outputs, c.inputs);
  std::vector<std::vector<std::uint8_t>> bytes;
  std::vector<kv::QuadBlock> blocks;
  for (const std::int64_t channels : c.channels) {
    auto& block = bytes.emplace_back(static_cast<std::size_t>(channels * (c.tokens + c.spare)));
    for (auto& byte : block) byte = static_cast<std::uint8_t>(c.extreme ? 0 : random());
    blocks.push_back({block.data(), channels, c.tokens + c.spare});
  }
  const std::int64_t stride = c.tokens + c.spare;
  std::vector<std::int32_t> expected(static_cast<std::size_t>((c.outputs + 1) * stride), 77);
  auto out = expected;
  kv::set_dot_target(kv::DotTarget::kScalar);
  if (c.active.empty()) {
    kv::int8_dot(weights, blocks, c.tokens, expected.data(), stride);
    device::int8_dot_cuda(weights, blocks, std::nullopt, c.tokens, out.data(), stride);
  } else {
    kv::int8_dot_active(weights, blocks, c.active, c.tokens, expected.data(), stride);
    device::int8_dot_cuda(weights, blocks, c.active, c.tokens, out.data(), stride);
  }
  CHECK(out == expected);
}

}  // namespace

TEST_CASE("int8_dot: odd sizes, several blocks, long rows") {
  check({1, 1, 16, {4}, 0, {}});
  check({3, 6, 48, {8}, 3, {}});
  check({64, 64, 64, {64}, 0, {}});
  check({65, 132, 80, {12, 100, 20}, 1, {}});
  check({70, 130, 16, {4, 4, 4, 4, 116}, 4, {}});
  check({192, 576, 128, {192, 192, 192}, 0, {}});
  check({17, 1000, 32, {1000}, 0, {}, true});
  check({17, 1000, 0, {1000}, 16, {}});
}

TEST_CASE("int8_dot: some quads only") {
  check({40, 200, 32, {100, 100}, 0, {0}});
  check({40, 200, 32, {100, 100}, 2, {3, 4, 17, 30, 49}});
  check({20, 256, 96, {256}, 0, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 63}});
}

TEST_CASE("reconstruct: all types, both outputs or one") {
  std::mt19937 random(3);
  for (const std::int64_t outputs : {4, 28, 32, 68}) {
    for (const std::int64_t tokens : {16, 48, 96}) {
      for (const int variant : {0, 1, 2, 3}) {
        for (const auto type :
             {kv::EpilogueType::kF32, kv::EpilogueType::kF16, kv::EpilogueType::kBF16}) {
          CAPTURE(outputs);
          CAPTURE(tokens);
          CAPTURE(variant);
          CAPTURE(static_cast<int>(type));
          const std::int64_t spare = variant, stride = tokens + spare;
          std::vector<std::int32_t> r(static_cast<std::size_t>(outputs * stride)), p = r;
          std::vector<std::uint8_t> m(static_cast<std::size_t>(tokens)),
              f(static_cast<std::size_t>(outputs));
          std::vector<std::int8_t> s(m.size());
          std::vector<float> mean(f.size()), unit(f.size());
          for (auto& value : r) value = static_cast<std::int32_t>(random()) >> (variant ? 19 : 0);
          for (auto& value : p) value = static_cast<std::int32_t>(random()) >> (variant ? 3 : 0);
          for (auto& value : m) value = static_cast<std::uint8_t>(64 + random() % 192);
          for (auto& value : s)
            value = static_cast<std::int8_t>(static_cast<int>(random() % 25) - 8);
          for (auto& value : f) value = static_cast<std::uint8_t>(1 + random() % 24);
          for (auto& value : mean)
            value = 1e-3f * static_cast<float>(static_cast<int>(random() % 999));
          for (auto& value : unit)
            value = 1e-9f * static_cast<float>(static_cast<int>(random() % 999));
          kv::Reconstruction job;
          job.outputs = outputs, job.tokens = tokens;
          job.r = r.data(), job.r_stride = stride;
          job.p = variant == 1 ? nullptr : p.data(), job.p_stride = stride;
          job.m = m.data(), job.s = s.data(), job.f = f.data();
          job.mean = mean.data(), job.unit = unit.data();
          job.x_type = type, job.x_stride = outputs + spare, job.n_stride = stride;
          std::vector<std::uint32_t> n(static_cast<std::size_t>(outputs / 4 * stride + 1),
                                       0xEEEEEEEE);
          std::vector<std::uint32_t> x(static_cast<std::size_t>((tokens + 1) * (outputs + spare)),
                                       0xEEEEEEEE);
          auto cuda_n = n, cuda_x = x;
          const auto run = [&](auto& to_n, auto& to_x, const auto& function) {
            job.n = variant == 2 ? nullptr : reinterpret_cast<std::uint8_t*>(to_n.data());
            job.x = variant == 3 ? nullptr : to_x.data();
            function();
          };
          kv::set_epilogue_target(kv::EpilogueTarget::kScalar);
          run(n, x, [&] { kv::reconstruct(job); });
          run(cuda_n, cuda_x, [&] { device::reconstruct_cuda(job); });
          CHECK(cuda_n == n);
          CHECK(cuda_x == x);
        }
      }
    }
  }
}

TEST_CASE("int8_dot: an empty list of quads gives zeros") {
  const std::vector<std::int8_t> rows(8 * 8, 5);
  const kv::Int8Weights weights(rows, 8, 8);
  const std::vector<std::uint8_t> x(8 * 16, 200);
  const kv::QuadBlock block{x.data(), 8, 16};
  std::vector<std::int32_t> out(8 * 16, 77);
  device::int8_dot_cuda(weights, {&block, 1}, std::span<const std::int32_t>(), 16, out.data(), 16);
  CHECK(out == std::vector<std::int32_t>(8 * 16));
}

TEST_CASE("sizes that do not fit are refused on the host") {
  const auto refused = [](const device::CudaDot& job) {
    CHECK_THROWS_AS(device::int8_dot_on_device(job), std::invalid_argument);
  };
  device::CudaDot job;
  refused(job);
  job.outputs = 4, job.inputs = 8, job.tokens = 16, job.out_stride = 16;
  refused(job);
  job.blocks[0] = {nullptr, 8, 15};
  refused(job);
  job.blocks[0] = {nullptr, 12, 16};
  refused(job);
  job.blocks[0] = {nullptr, 8, 16};
  job.tokens = 8;
  refused(job);
  job.tokens = 16, job.out_stride = 15;
  refused(job);
  kv::Reconstruction other;
  other.outputs = 6;
  CHECK_THROWS_AS(device::reconstruct_on_device(other), std::invalid_argument);
  CHECK_THROWS_AS(device::reconstruct_cuda(other), std::invalid_argument);
}

int main(int argc, char** argv) {
  if (!device::int8_dot_has_cuda()) {
    std::fputs("SKIPPED: no CUDA device, or a build without CUDA\n", stderr);
    try {
      device::int8_dot_cuda(kv::Int8Weights(std::vector<std::int8_t>(1), 1, 1), {}, {}, 0, nullptr,
                            0);
    } catch (const std::runtime_error& error) {
      std::fprintf(stderr, "and a call says so: %s\n", error.what());
      return 125;
    }
    std::fputs("but a call succeeds\n", stderr);
    return 1;
  }
  return doctest::Context(argc, argv).run();
}
