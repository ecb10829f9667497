#include "kv/kernels/int8_dot.hh"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <thread>

namespace {

constexpr std::int32_t kSentinel = 0x5EA7BEEF;

struct Problem {
  std::int64_t outputs, inputs, tokens;
  std::vector<std::int64_t> block_channels;  // their sum is the inputs, rounded up to 4
  std::int64_t spare_tokens = 0;             // of a block's rows
  std::int64_t spare_out = 0;
};

using Fill = std::function<int(std::mt19937&)>;
const Fill kAnyWeight = [](auto& random) { return static_cast<int>(random() % 255) - 127; };
const Fill kAnyByte = [](auto& random) { return static_cast<int>(random() % 256); };

struct Data {
  Problem problem;
  std::vector<std::int8_t> rows;
  kv::Int8Weights weights;
  std::vector<std::unique_ptr<std::uint8_t[]>> memory;  // to the byte, so that ASan sees one more
  std::vector<kv::QuadBlock> blocks;

  Data(const Problem& p, const Fill& weight, const Fill& byte)
      : problem(p), rows(make_rows(p, weight)), weights(rows, p.outputs, p.inputs) {
    std::mt19937 random(5);
    for (const std::int64_t channels : p.block_channels) {
      const std::int64_t stride = p.tokens + p.spare_tokens;
      const auto size = static_cast<std::size_t>(channels * stride - 4 * p.spare_tokens);
      auto& bytes = memory.emplace_back(new std::uint8_t[size]);
      std::generate_n(bytes.get(), size, [&] { return static_cast<std::uint8_t>(byte(random)); });
      blocks.push_back({bytes.get(), channels, stride});
    }
  }

  static std::vector<std::int8_t> make_rows(const Problem& p, const Fill& weight) {
    std::mt19937 random(4);
    std::vector<std::int8_t> rows(static_cast<std::size_t>(p.outputs * p.inputs));
    for (auto& value : rows) value = static_cast<std::int8_t>(weight(random));
    return rows;
  }

  std::int64_t out_stride() const { return problem.tokens + problem.spare_out; }

  // Straight from the declaration, in 64 bits.
  std::vector<std::int32_t> expected(const std::vector<std::int32_t>& quads) const {
    std::vector<std::int32_t> out(
        static_cast<std::size_t>((problem.outputs + 2) * out_stride() + 2), kSentinel);
    std::vector<std::pair<const kv::QuadBlock*, std::int64_t>> where;
    for (const auto& block : blocks) {
      for (std::int64_t k = 0; k < block.channels; ++k) where.emplace_back(&block, k);
    }
    for (std::int64_t c = 0; c < problem.outputs; ++c) {
      for (std::int64_t t = 0; t < problem.tokens; ++t) {
        std::int64_t sum = 0;
        for (const std::int32_t q : quads) {
          for (std::int64_t k = 4 * q; k < std::min<std::int64_t>(4 * q + 4, problem.inputs); ++k) {
            const auto [block, channel] = where[static_cast<std::size_t>(k)];
            const std::int64_t at = (channel / 4 * block->stride_tokens + t) * 4 + channel % 4;
            sum += rows[static_cast<std::size_t>(c * problem.inputs + k)] * (block->data[at] - 128);
          }
        }
        out[static_cast<std::size_t>((c + 1) * out_stride() + t + 1)] =
            static_cast<std::int32_t>(sum);
      }
    }
    return out;
  }

  std::vector<std::int32_t> blank() const {
    return std::vector<std::int32_t>(
        static_cast<std::size_t>((problem.outputs + 2) * out_stride() + 2), kSentinel);
  }
  std::int32_t* begin_of(std::vector<std::int32_t>& out) const {
    return out.data() + out_stride() + 1;  // not aligned
  }
};

std::vector<std::int32_t> all_quads(const kv::Int8Weights& weights) {
  std::vector<std::int32_t> quads(static_cast<std::size_t>(weights.quads()));
  std::iota(quads.begin(), quads.end(), 0);
  return quads;
}

void for_each_target(const std::function<void(kv::DotTarget)>& body) {
  for (const kv::DotTarget target : kv::dot_targets()) {
    kv::set_dot_target(target);
    CAPTURE(kv::dot_target_name(target));
    body(target);
  }
  kv::set_dot_target(kv::dot_targets().front());
}

void check(const Data& data) {
  const Problem& p = data.problem;
  CAPTURE(p.outputs);
  CAPTURE(p.inputs);
  CAPTURE(p.tokens);
  const auto quads = all_quads(data.weights);
  const auto expected = data.expected(quads);
  for_each_target([&](kv::DotTarget target) {
    auto out = data.blank();
    CHECK(kv::int8_dot(data.weights, data.blocks, p.tokens, data.begin_of(out),
                       data.out_stride()) == target);
    CHECK(out == expected);
    out = data.blank();
    CHECK(kv::int8_dot_active(data.weights, data.blocks, quads, p.tokens, data.begin_of(out),
                              data.out_stride()) == target);
    CHECK(out == expected);
  });
}

void check_active(const Data& data, const std::vector<std::int32_t>& quads) {
  CAPTURE(quads.size());
  const auto expected = data.expected(quads);
  for_each_target([&](kv::DotTarget target) {
    auto out = data.blank();
    CHECK(kv::int8_dot_active(data.weights, data.blocks, quads, data.problem.tokens,
                              data.begin_of(out), data.out_stride()) == target);
    CHECK(out == expected);
  });
}

std::vector<std::int32_t> some_quads(const kv::Int8Weights& weights, unsigned one_in) {
  std::mt19937 random(one_in);
  std::vector<std::int32_t> quads;
  for (const std::int32_t q : all_quads(weights)) {
    if (random() % one_in == 0) quads.push_back(q);
  }
  return quads;
}

}  // namespace

TEST_CASE("the targets of this machine") {
  std::string names;
  for (const kv::DotTarget target : kv::dot_targets()) {
    names += std::string(" ") + kv::dot_target_name(target);
  }
  MESSAGE("targets:" << names);
  CHECK(kv::dot_targets().back() == kv::DotTarget::kScalar);
  const kv::DotTarget every[] = {kv::DotTarget::kScalar, kv::DotTarget::kAvx2,
                                 kv::DotTarget::kAvxVnni, kv::DotTarget::kAvx512Vnni,
                                 kv::DotTarget::kAmx};
  for (const kv::DotTarget target : every) {
    const auto here = kv::dot_targets();
    if (std::find(here.begin(), here.end(), target) == here.end()) {
      CHECK_THROWS_AS(kv::set_dot_target(target), std::invalid_argument);
    }
  }
}

TEST_CASE("every target gives the defined sums, for odd sizes") {
  for (const std::int64_t outputs : {1, 3, 8, 15, 16, 17, 33, 48, 70}) {
    for (const std::int64_t inputs : {1, 4, 6, 63, 64, 65, 130}) {
      for (const std::int64_t tokens : {16, 32, 48}) {
        check(Data({outputs, inputs, tokens, {(inputs + 3) / 4 * 4}, 0, 0}, kAnyWeight, kAnyByte));
      }
    }
  }
}

TEST_CASE("more inputs than lie packed at one time, and the sizes of the decoder") {
  check(Data({20, 1000, 48, {1000}, 16, 3}, kAnyWeight, kAnyByte));
  check(Data({5, 768, 16, {768}, 0, 0}, kAnyWeight, kAnyByte));
  check(Data({17, 772, 32, {772}, 0, 0}, kAnyWeight, kAnyByte));
  check(Data({33, 1537, 16, {1540}, 0, 0}, kAnyWeight, kAnyByte));
  check(Data({192, 576, 128, {192, 192, 192}, 0, 0}, kAnyWeight, kAnyByte));
  check(Data({192, 384, 64, {192, 192}, 64, 0}, kAnyWeight, kAnyByte));
}

TEST_CASE("several blocks, with rows that are longer than the tokens") {
  check(Data({19, 57, 32, {4, 20, 8, 12, 16}, 5, 7}, kAnyWeight, kAnyByte));
  check(Data({7, 84, 80, {60, 24}, 1, 0}, kAnyWeight, kAnyByte));
}

TEST_CASE("extremes: nothing saturates and nothing overflows") {
  const auto always = [](int value) { return [value](std::mt19937&) { return value; }; };
  const auto one_of = [](int a, int b) {
    return [a, b](std::mt19937& random) { return random() % 2 ? a : b; };
  };
  for (const Fill& weight : {Fill(always(127)), Fill(always(-127)), Fill(one_of(127, -127))}) {
    for (const Fill& byte : {Fill(always(0)), Fill(always(255)), Fill(always(128)),
                             Fill(one_of(0, 255)), Fill(one_of(0, 128))}) {
      check(Data({18, 200, 32, {200}, 0, 0}, weight, byte));
    }
    check(Data({2, kv::Int8Weights::kMaxInputs, 16, {kv::Int8Weights::kMaxInputs}, 0, 0}, weight,
               always(0)));
  }
}

TEST_CASE("some quads only") {
  const Data small({18, 130, 48, {100, 32}, 2, 1}, kAnyWeight, kAnyByte);
  const Data large({34, 2000, 32, {2000}, 0, 0}, kAnyWeight, kAnyByte);
  for (const Data* data : {&small, &large}) {
    check_active(*data, {});
    check_active(*data, {0});
    check_active(*data, {static_cast<std::int32_t>(data->weights.quads() - 1)});
    check_active(*data, {3, 17, 18, 31});
    for (const unsigned one_in : {2u, 5u, 16u}) {
      check_active(*data, some_quads(data->weights, one_in));
    }
    auto leading = all_quads(data->weights);
    leading.resize(leading.size() / 2);
    check_active(*data, leading);
  }
}

TEST_CASE("quads that are all 128 may be left out") {
  const Problem p{40, 192, 64, {192}, 0, 0};
  Data data(p, kAnyWeight, kAnyByte);
  const std::vector<std::int32_t> quads = some_quads(data.weights, 3);
  for (std::int64_t q = 0; q < data.weights.quads(); ++q) {
    if (std::binary_search(quads.begin(), quads.end(), static_cast<std::int32_t>(q))) continue;
    std::fill_n(data.memory[0].get() + 4 * q * p.tokens, 4 * p.tokens, std::uint8_t{128});
  }
  auto whole = data.blank(), some = data.blank();
  kv::int8_dot(data.weights, data.blocks, p.tokens, data.begin_of(whole), data.out_stride());
  kv::int8_dot_active(data.weights, data.blocks, quads, p.tokens, data.begin_of(some),
                      data.out_stride());
  CHECK(whole == some);
}

TEST_CASE("threads share the weights, each target in each thread") {
  const Data data({50, 300, 64, {300}, 0, 0}, kAnyWeight, kAnyByte);
  const auto expected = data.expected(all_quads(data.weights));
  for_each_target([&](kv::DotTarget target) {
    std::vector<int> good(8);
    std::vector<std::thread> threads;
    for (int& count : good) {
      threads.emplace_back([&data, &expected, &count, target] {
        for (int i = 0; i < 20; ++i) {
          auto out = data.blank();
          count += kv::int8_dot(data.weights, data.blocks, data.problem.tokens, data.begin_of(out),
                                data.out_stride()) == target &&
                   out == expected;
        }
      });
    }
    for (auto& thread : threads) thread.join();
    CHECK(good == std::vector<int>(8, 20));
  });
}

#if defined(__x86_64__)
TEST_CASE("AMX: the tiles' configuration is left as it was") {
  const auto targets = kv::dot_targets();
  if (std::find(targets.begin(), targets.end(), kv::DotTarget::kAmx) == targets.end()) {
    MESSAGE("no AMX here: not tested");
    return;
  }
  using Config = std::array<std::uint8_t, 64>;
  const auto current = [] {
    Config config;
    __asm__ volatile("sttilecfg %0" : "=m"(config));
    return config;
  };
  const Data data({20, 70, 16, {72}, 0, 0}, kAnyWeight, kAnyByte);
  const auto dot = [&] {
    kv::set_dot_target(kv::DotTarget::kAmx);
    auto out = data.blank();
    CHECK(kv::int8_dot(data.weights, data.blocks, 16, data.begin_of(out), data.out_stride()) ==
          kv::DotTarget::kAmx);
    CHECK(out == data.expected(all_quads(data.weights)));
    kv::set_dot_target(targets.front());
  };
  dot();
  CHECK(current() == Config{});  // released: the thread's state is small again
  Config other{};
  other[0] = 1;               // palette
  other[16] = other[18] = 8;  // bytes a row
  other[48] = 3, other[49] = 5;
  __asm__ volatile("ldtilecfg %0" ::"m"(other));
  dot();
  CHECK(current() == other);
  __asm__ volatile("tilerelease");
}
#endif

TEST_CASE("weights survive a move") {
  Data data({20, 70, 16, {72}, 0, 0}, kAnyWeight, kAnyByte);
  const auto expected = data.expected(all_quads(data.weights));
  const kv::Int8Weights moved = std::move(data.weights);
  auto out = data.blank();
  kv::int8_dot(moved, data.blocks, 16, data.begin_of(out), data.out_stride());
  CHECK(out == expected);
}

TEST_CASE("sizes that do not fit are refused") {
  const std::vector<std::int8_t> rows(64 * 8, 1);
  const auto refused = [](const auto& body) { CHECK_THROWS_AS(body(), std::invalid_argument); };
  refused([&] { kv::Int8Weights(rows, 8, 63); });
  refused([&] { kv::Int8Weights(rows, 0, 64); });
  refused([&] { kv::Int8Weights({}, 1, 0); });
  const std::vector<std::int8_t> wide(kv::Int8Weights::kMaxInputs + 1, 1);
  refused([&] { kv::Int8Weights(wide, 1, kv::Int8Weights::kMaxInputs + 1); });
  auto least = rows;
  least[77] = -128;
  refused([&] { kv::Int8Weights(least, 8, 64); });

  const kv::Int8Weights weights(rows, 8, 64);
  const std::vector<std::uint8_t> x(64 * 32, 1);
  std::vector<std::int32_t> out(8 * 32, kSentinel);
  const auto dot = [&](std::vector<kv::QuadBlock> blocks, std::int64_t tokens,
                       std::int64_t out_stride) {
    return [&, blocks, tokens, out_stride] {
      kv::int8_dot(weights, blocks, tokens, out.data(), out_stride);
    };
  };
  refused(dot({{x.data(), 60, 32}}, 32, 32));
  refused(dot({{x.data(), 68, 32}}, 32, 32));
  refused(dot({{x.data(), 62, 32}, {x.data(), 2, 32}}, 32, 32));
  refused(dot({{x.data(), 64, 16}}, 32, 32));
  refused(dot({{x.data(), 64, 32}}, 24, 32));
  refused(dot({{x.data(), 64, 32}}, -16, 32));
  refused(dot({{x.data(), 64, 32}}, 32, 16));
  refused(dot({{x.data(), 64, 32}, {x.data(), 4, 32}}, 32, 32));
  const auto active = [&](std::vector<std::int32_t> quads) {
    return [&, quads] {
      const kv::QuadBlock block{x.data(), 64, 32};
      kv::int8_dot_active(weights, {&block, 1}, quads, 32, out.data(), 32);
    };
  };
  refused(active({-1}));
  refused(active({16}));
  refused(active({3, 3}));
  refused(active({4, 3}));
  dot({{x.data(), 64, 32}}, 0, 32)();  // nothing to do
  CHECK(out == std::vector<std::int32_t>(8 * 32, kSentinel));
}
