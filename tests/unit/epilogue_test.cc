#include "kv/kernels/epilogue.hh"

#include "kv/kernels/float_bits.hh"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using kv::EpilogueType;

constexpr EpilogueType kTypes[] = {EpilogueType::kF32, EpilogueType::kF16, EpilogueType::kBF16};

std::size_t size_of(EpilogueType type) { return type == EpilogueType::kF32 ? 4 : 2; }

struct Shape {
  std::int64_t outputs, tokens, spare;  // spare of every stride
  bool prediction;
};

struct Inputs {
  Shape shape;
  std::vector<std::int32_t> r, p;
  std::vector<std::uint8_t> m, f;
  std::vector<std::int8_t> s, g;
  std::vector<float> mean, unit;

  // Where `wild`, any 32 bits: then sums wrap, the same everywhere.
  explicit Inputs(const Shape& given, bool wild = false) : shape(given) {
    std::mt19937 random(static_cast<unsigned>(given.outputs + given.tokens));
    const auto size = static_cast<std::size_t>(given.outputs * (given.tokens + given.spare));
    const auto value = [&](int bits) {
      return static_cast<std::int32_t>(random()) >> (wild ? 0 : 32 - bits);
    };
    const auto fill = [](auto& to, std::int64_t count, const auto& make) {
      for (std::int64_t i = 0; i < count; ++i) {
        to.push_back(static_cast<std::remove_reference_t<decltype(to[0])>>(make()));
      }
    };
    fill(r, static_cast<std::int64_t>(size), [&] { return value(13); });
    fill(p, static_cast<std::int64_t>(size), [&] { return value(29); });
    fill(m, given.tokens, [&] { return 64 + random() % 192; });
    fill(s, given.tokens, [&] { return static_cast<int>(random() % 25) - 8; });
    fill(f, given.outputs, [&] { return 1 + random() % 24; });
    fill(g, given.outputs, [&] { return random() % (wild ? 16 : 4); });
    fill(mean, given.outputs, [&] { return std::ldexp(value(20), -16); });
    fill(unit, given.outputs, [&] { return std::ldexp(value(20), -40); });
  }

  kv::Reconstruction job(std::vector<std::uint8_t>& n, std::vector<std::byte>& x,
                         EpilogueType type) const {
    const std::int64_t stride = shape.tokens + shape.spare;
    n.assign(static_cast<std::size_t>(shape.outputs * stride) + 2, 0xEE);
    x.assign(static_cast<std::size_t>((shape.tokens + 2) * (shape.outputs + shape.spare)) *
                 size_of(type),
             std::byte{0xEE});
    kv::Reconstruction job;
    job.outputs = shape.outputs, job.tokens = shape.tokens;
    job.r = r.data(), job.r_stride = stride;
    job.g = shape.outputs % 8 == 0 ? g.data() : nullptr;
    job.p = shape.prediction ? p.data() : nullptr, job.p_stride = stride;
    job.m = m.data(), job.s = s.data(), job.f = f.data();
    job.mean = mean.data(), job.unit = unit.data();
    job.n = n.data() + 1, job.n_stride = stride;
    job.x_stride = shape.outputs + shape.spare;
    job.x = x.data() + static_cast<std::size_t>(job.x_stride) * size_of(type);
    job.x_type = type;
    return job;
  }
};

struct Result {
  std::vector<std::uint8_t> n;
  std::vector<std::byte> x;
  bool operator==(const Result&) const = default;
};

Result run(const Inputs& inputs, EpilogueType type, kv::EpilogueTarget target) {
  Result result;
  kv::set_epilogue_target(target);
  CHECK(kv::reconstruct(inputs.job(result.n, result.x, type)) == target);
  kv::set_epilogue_target(kv::epilogue_targets().front());
  return result;
}

void check(const Inputs& inputs) {
  CAPTURE(inputs.shape.outputs);
  CAPTURE(inputs.shape.tokens);
  for (const EpilogueType type : kTypes) {
    CAPTURE(static_cast<int>(type));
    const Result expected = run(inputs, type, kv::EpilogueTarget::kScalar);
    for (const kv::EpilogueTarget target : kv::epilogue_targets()) {
      CAPTURE(kv::epilogue_target_name(target));
      CHECK(run(inputs, type, target) == expected);
    }
  }
}

// 2^e, or less where that is subnormal, made without the function under test.
double f16_value(unsigned half) {
  const int exponent = static_cast<int>(half >> 10 & 31);
  const double fraction = half & 1023;
  const double magnitude = exponent ? std::ldexp(1024 + fraction, exponent - 25)  // 31: 2^16 and on
                                    : std::ldexp(fraction, -24);
  return half & 0x8000 ? -magnitude : magnitude;
}

}  // namespace

TEST_CASE("one value by hand") {
  Inputs inputs({4, 16, 0, true});
  std::fill(inputs.r.begin(), inputs.r.end(), -3);
  std::fill(inputs.p.begin(), inputs.p.end(), 1000);
  std::fill(inputs.m.begin(), inputs.m.end(), std::uint8_t{101});
  std::fill(inputs.s.begin(), inputs.s.end(), std::int8_t{-1});
  inputs.s[5] = 4;
  std::fill(inputs.f.begin(), inputs.f.end(), std::uint8_t{4});
  inputs.f[2] = 10;
  std::fill(inputs.mean.begin(), inputs.mean.end(), 0.5f);
  std::fill(inputs.unit.begin(), inputs.unit.end(), 0.25f);
  for (const kv::EpilogueTarget target : kv::epilogue_targets()) {
    CAPTURE(kv::epilogue_target_name(target));
    const Result result = run(inputs, EpilogueType::kF32, target);
    const auto x = [&](std::int64_t t, std::int64_t c) {
      float value;
      std::memcpy(&value, result.x.data() + static_cast<std::size_t>((t + 1) * 4 + c) * 4, 4);
      return value;
    };
    const auto n = [&](std::int64_t t, std::int64_t c) {
      return int{result.n[static_cast<std::size_t>(1 + t * 4 + c)]};
    };
    CHECK(x(0, 0) == 0.5f + 0.25f * 849);   // -303 / 2 is -151.5, rounded up
    CHECK(x(5, 1) == 0.5f - 0.25f * 3848);  // -303 * 16
    CHECK(n(0, 0) == 128 + 53);             // 849 / 16 = 53.06
    CHECK(n(5, 0) == 1);                    // -3848 / 16 is below -127
    CHECK(n(5, 2) == 128 - 4);              // -3.76
    CHECK(n(0, 2) == 128 + 1);              // 0.83
  }
}

TEST_CASE("every target gives the same bits") {
  for (const std::int64_t outputs : {4, 8, 12, 64, 192}) {
    for (const std::int64_t tokens : {16, 32, 48, 128}) {
      for (const bool prediction : {false, true}) {
        check(Inputs({outputs, tokens, 0, prediction}));
        check(Inputs({outputs, tokens, 5, prediction}));
        check(Inputs({outputs, tokens, 1, prediction}, true));
      }
    }
  }
  check(Inputs({4, 0, 0, true}));
  check(Inputs({0, 16, 0, true}));
}

TEST_CASE("extremes: sums wrap, the largest values become infinite, ties go to even") {
  constexpr std::int32_t least = std::numeric_limits<std::int32_t>::min();
  for (const std::int32_t r : {least, -(least + 1), 0, 1, -1, 1 << 22, -(1 << 22)}) {
    for (const float unit : {1.0f, 0x1p-149f, 0x1p-126f, 0x1.fffffep127f, -0x1p-24f, 0x1.8p-25f}) {
      Inputs inputs({16, 32, 3, true}, true);
      std::fill(inputs.r.begin(), inputs.r.end(), r);
      for (std::size_t i = 0; i < inputs.unit.size(); ++i) {
        inputs.unit[i] = i % 2 ? unit : -unit;
        if (i % 4 < 2) inputs.mean[i] = i % 8 < 4 ? 0.0f : -0.0f;
      }
      for (std::size_t i = 0; i < inputs.p.size(); i += 2) inputs.p[i] = i % 4 ? 65519 : 2049;
      check(inputs);
      inputs.shape.prediction = false;
      check(inputs);
    }
  }
}

TEST_CASE("only one of the two outputs") {
  const Inputs inputs({12, 32, 2, true});
  for (const kv::EpilogueTarget target : kv::epilogue_targets()) {
    const Result both = run(inputs, EpilogueType::kBF16, target);
    Result one;
    kv::set_epilogue_target(target);
    auto job = inputs.job(one.n, one.x, EpilogueType::kBF16);
    job.x = nullptr;
    kv::reconstruct(job);
    CHECK(one.n == both.n);
    CHECK(std::count(one.x.begin(), one.x.end(), std::byte{0xEE}) == std::ssize(one.x));
    job = inputs.job(one.n, one.x, EpilogueType::kBF16);
    job.n = nullptr;
    kv::reconstruct(job);
    CHECK(one.x == both.x);
    CHECK(std::count(one.n.begin(), one.n.end(), 0xEE) == std::ssize(one.n));
  }
  kv::set_epilogue_target(kv::epilogue_targets().front());
}

TEST_CASE("f16: each value, each middle of two and its neighbours") {
  for (unsigned half = 0; half < 0x7C00; ++half) {
    const auto to_half = [](double value) {
      return unsigned{kv::f16_of_bits(std::bit_cast<std::uint32_t>(static_cast<float>(value)))};
    };
    const double low = f16_value(half), high = f16_value(half + 1), middle = (low + high) / 2;
    const unsigned even = half % 2 ? half + 1 : half;
    const bool good = to_half(low) == half && to_half(-low) == (half | 0x8000) &&
                      to_half(middle) == even && to_half(-middle) == (even | 0x8000) &&
                      to_half(middle * (1 - 0x1p-22)) == half &&
                      to_half(middle * (1 + 0x1p-22)) == half + 1;
    if (!good) FAIL("half " << half);
  }
  CHECK(kv::f16_of_bits(0x7F800000) == 0x7C00);
  CHECK(kv::f16_of_bits(0xFF800000) == 0xFC00);
  CHECK(kv::f16_of_bits(1) == 0);
}

TEST_CASE("bf16: ties to even, up to infinity") {
  CHECK(kv::bf16_of_bits(0x3F808000) == 0x3F80);
  CHECK(kv::bf16_of_bits(0x3F818000) == 0x3F82);
  CHECK(kv::bf16_of_bits(0x3F808001) == 0x3F81);
  CHECK(kv::bf16_of_bits(0x3F807FFF) == 0x3F80);
  CHECK(kv::bf16_of_bits(0x7F7FFFFF) == 0x7F80);
  CHECK(kv::bf16_of_bits(0x80000001) == 0x8000);
}

TEST_CASE("threads") {
  const Inputs inputs({64, 64, 0, true});
  const Result expected = run(inputs, EpilogueType::kF16, kv::EpilogueTarget::kScalar);
  std::vector<int> good(8);
  std::vector<std::thread> threads;
  for (int& count : good) {
    threads.emplace_back([&inputs, &expected, &count] {
      for (int i = 0; i < 20; ++i) {
        Result result;
        kv::reconstruct(inputs.job(result.n, result.x, EpilogueType::kF16));
        count += result == expected;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(good == std::vector<int>(8, 20));
}

TEST_CASE("what does not fit is refused") {
  const Inputs good({8, 32, 0, true});
  const auto refused = [&](const std::function<void(Inputs&, kv::Reconstruction&)>& spoil) {
    Inputs inputs = good;
    Result result;
    kv::Reconstruction job = inputs.job(result.n, result.x, EpilogueType::kF32);
    spoil(inputs, job);
    CHECK_THROWS_AS(kv::reconstruct(job), std::invalid_argument);
  };
  refused([](Inputs&, kv::Reconstruction& job) { job.outputs = 6; });
  refused([](Inputs&, kv::Reconstruction& job) { job.tokens = 24; });
  refused([](Inputs&, kv::Reconstruction& job) { job.tokens = -16; });
  refused([](Inputs&, kv::Reconstruction& job) { job.r_stride = 31; });
  refused([](Inputs&, kv::Reconstruction& job) { job.p_stride = 31; });
  refused([](Inputs&, kv::Reconstruction& job) { job.n_stride = 31; });
  refused([](Inputs&, kv::Reconstruction& job) { job.x_stride = 7; });
  refused([](Inputs& inputs, kv::Reconstruction&) { inputs.s[31] = 17; });
  refused([](Inputs& inputs, kv::Reconstruction&) { inputs.s[0] = -25; });
  refused([](Inputs& inputs, kv::Reconstruction&) { inputs.f[7] = 25; });
  refused([](Inputs& inputs, kv::Reconstruction&) { inputs.f[7] = 0; });
  refused([](Inputs& inputs, kv::Reconstruction&) { inputs.mean[3] = NAN; });
  refused([](Inputs& inputs, kv::Reconstruction&) { inputs.unit[3] = INFINITY; });
}
