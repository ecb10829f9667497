#include "kv/kernels/rebuild.hh"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <stdexcept>
#include <vector>

namespace {

// Weights and activations of one product.
struct Factor {
  kv::Int8Weights weights;
  std::vector<std::uint8_t> bytes;
  std::vector<kv::QuadBlock> blocks;

  Factor(std::int64_t outputs, std::int64_t inputs, std::int64_t tokens, unsigned seed)
      : weights(make_rows(outputs * inputs, seed), outputs, inputs) {
    std::mt19937 random(seed);
    const std::int64_t channels = 4 * weights.quads();
    bytes.resize(static_cast<std::size_t>(channels * tokens));
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
    const std::int64_t first = channels > 8 ? 8 : channels;
    blocks.push_back({bytes.data(), first, tokens});
    if (channels > first)
      blocks.push_back({bytes.data() + first * tokens, channels - first, tokens});
  }
  static std::vector<std::int8_t> make_rows(std::int64_t size, unsigned seed) {
    std::mt19937 random(seed + 1);
    std::vector<std::int8_t> rows(static_cast<std::size_t>(size));
    for (std::int8_t& value : rows) {
      value = static_cast<std::int8_t>(static_cast<int>(random() % 255) - 127);
    }
    return rows;
  }
  std::vector<std::int32_t> sums(std::int64_t quads, std::int64_t tokens) const {
    std::vector<std::int32_t> active, out(static_cast<std::size_t>(weights.outputs() * tokens));
    for (std::int64_t q = 0; q < quads; ++q) active.push_back(static_cast<std::int32_t>(q));
    kv::int8_dot_active(weights, blocks, active, tokens, out.data(), tokens);
    return out;
  }
};

struct Shape {
  std::int64_t outputs, first_inputs, second_inputs, tokens;
};
// Ends within tiles of 16 outputs and quads, within a target's blocks of tokens, one of each.
constexpr Shape kShapes[] = {{4, 4, 4, 16},       {20, 60, 100, 80}, {192, 192, 576, 144},
                             {64, 68, 8, 272},    {36, 300, 16, 32}, {196, 12, 260, 1040},
                             {100, 800, 1000, 48}};

void for_each_target(const auto& body) {
  kv::set_dot_target(kv::DotTarget::kScalar);
  for (const kv::DotTarget dot : kv::dot_targets()) {
    for (const kv::EpilogueTarget epilogue : kv::epilogue_targets()) {
      kv::set_dot_target(dot);
      kv::set_epilogue_target(epilogue);
      CAPTURE(kv::dot_target_name(dot));
      CAPTURE(kv::epilogue_target_name(epilogue));
      body(dot);
    }
  }
  kv::set_dot_target(kv::dot_targets().front());
  kv::set_epilogue_target(kv::epilogue_targets().front());
}

}  // namespace

TEST_CASE("int8_dot_blocks: all sums once, of whole and of some quads and outputs") {
  for (const Shape& shape : kShapes) {
    CAPTURE(shape.outputs);
    CAPTURE(shape.tokens);
    const Factor a(shape.outputs, shape.first_inputs, shape.tokens, 1);
    const Factor b(shape.outputs, shape.second_inputs, shape.tokens, 2);
    const std::int64_t some = a.weights.quads() / 2;
    for (const std::int64_t outputs : {shape.outputs, shape.outputs / 8 * 4}) {
      kv::set_dot_target(kv::DotTarget::kScalar);
      const auto first = a.sums(some, shape.tokens),
                 second = b.sums(b.weights.quads(), shape.tokens);
      for_each_target([&](kv::DotTarget target) {
        const kv::DotProduct products[] = {{&a.weights, a.blocks, some, outputs},
                                           {&b.weights, b.blocks, b.weights.quads(), outputs}};
        std::vector<int> seen(static_cast<std::size_t>(outputs * shape.tokens));
        bool same = true, in_steps = true;
        const auto take = [&](const kv::DotBlock& block) {
          in_steps = in_steps && block.output % 4 == 0 && block.token % 16 == 0 &&
                     block.tokens % 16 == 0 && block.outputs % 4 == 0;
          for (std::int64_t c = 0; c < block.outputs; ++c) {
            for (std::int64_t t = 0; t < block.tokens; ++t) {
              const auto at =
                  static_cast<std::size_t>((block.output + c) * shape.tokens + block.token + t);
              ++seen.at(at);
              same = same && block.sums[0][c * block.stride + t] == first[at] &&
                     block.sums[1][c * block.stride + t] == second[at];
            }
          }
        };
        CHECK(kv::int8_dot_blocks(products, shape.tokens, take) == target);
        CHECK(same);
        CHECK(in_steps);
        CHECK(std::all_of(seen.begin(), seen.end(), [](int times) { return times == 1; }));
      });
    }
  }
}

TEST_CASE("reconstruct: of products, the same bits as of their sums") {
  for (const Shape& shape : kShapes) {
    for (const int form : {0, 1, 2}) {  // both products; the second's sums; none of it
      CAPTURE(shape.outputs);
      CAPTURE(shape.tokens);
      CAPTURE(form);
      const Factor a(shape.outputs, shape.first_inputs, shape.tokens, 3);
      const Factor b(shape.outputs, shape.second_inputs, shape.tokens, 4);
      kv::set_dot_target(kv::DotTarget::kScalar);
      kv::set_epilogue_target(kv::EpilogueTarget::kScalar);
      const auto r = a.sums(a.weights.quads(), shape.tokens);
      const auto p = b.sums(b.weights.quads(), shape.tokens);
      std::mt19937 random(5);
      const auto count = static_cast<std::size_t>(shape.outputs);
      std::vector<std::uint8_t> m, f(count);
      std::vector<std::int8_t> s, g(count);
      std::vector<float> mean(count), unit(count);
      for (std::int64_t t = 0; t < shape.tokens; ++t) {
        m.push_back(static_cast<std::uint8_t>(128 + random() % 108));
        s.push_back(static_cast<std::int8_t>(static_cast<int>(random() % 12) - 10));
      }
      for (std::size_t c = 0; c < count; ++c) {
        f[c] = static_cast<std::uint8_t>(1 + random() % 20);
        g[c] = static_cast<std::int8_t>(random() % 4);
        mean[c] = static_cast<float>(random() % 100) - 50;
        unit[c] = 1.0f / static_cast<float>(1 + random() % 5000);
      }
      struct Result {
        std::vector<std::uint8_t> n;
        std::vector<std::uint16_t> x;
      };
      const auto result = [&](const auto& run) {
        const auto size = static_cast<std::size_t>(shape.outputs * shape.tokens);
        Result out{std::vector<std::uint8_t>(size), std::vector<std::uint16_t>(size)};
        kv::Reconstruction job{.outputs = shape.outputs,
                               .tokens = shape.tokens,
                               .g = g.data(),
                               .m = m.data(),
                               .s = s.data(),
                               .f = f.data(),
                               .mean = mean.data(),
                               .unit = unit.data(),
                               .n = out.n.data(),
                               .n_stride = shape.tokens,
                               .x = out.x.data(),
                               .x_stride = shape.outputs};
        if (form == 1) job.p = p.data(), job.p_stride = shape.tokens;
        run(job);
        return out;
      };
      const Result expected = result([&](kv::Reconstruction job) {
        job.r = r.data(), job.r_stride = shape.tokens;
        if (form == 0) job.p = p.data(), job.p_stride = shape.tokens;
        kv::reconstruct(job);
      });
      for_each_target([&](kv::DotTarget) {
        const Result found = result([&](const kv::Reconstruction& job) {
          std::vector<kv::DotProduct> products = {
              {&a.weights, a.blocks, a.weights.quads(), shape.outputs}};
          if (form == 0) {
            products.push_back({&b.weights, b.blocks, b.weights.quads(), shape.outputs});
          }
          kv::reconstruct(products, job);
        });
        CHECK(found.n == expected.n);
        CHECK(found.x == expected.x);
      });
    }
  }
}

TEST_CASE("products that do not belong together are refused") {
  const Factor a(8, 8, 16, 6), b(12, 8, 16, 7);
  const auto take = [](const kv::DotBlock&) {};
  const auto refused = [&](const std::vector<kv::DotProduct>& products, std::int64_t tokens) {
    CHECK_THROWS_AS(kv::int8_dot_blocks(products, tokens, take), std::invalid_argument);
  };
  refused({}, 16);
  refused({{&a.weights, a.blocks, 2, 8}, {&b.weights, b.blocks, 2, 12}}, 16);
  refused({{&a.weights, a.blocks, 3, 8}}, 16);
  refused({{&a.weights, a.blocks, 2, 12}}, 16);
  refused({{&a.weights, a.blocks, 2, 8}}, 8);
  refused(
      {{&a.weights, a.blocks, 2, 8}, {&a.weights, a.blocks, 2, 8}, {&a.weights, a.blocks, 2, 8}},
      16);
}
