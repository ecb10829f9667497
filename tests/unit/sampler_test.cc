#include "kv/generate/sampler.hh"

#include "kv/base/error.hh"

#include <doctest/doctest.h>

#include <array>
#include <cmath>

namespace {

constexpr std::array<float, 4> kLogits = {1.0f, 3.0f, 3.0f, 0.0f};

std::array<double, 4> frequencies(const kv::SamplerOptions& options) {
  constexpr int kDraws = 20000;
  kv::Sampler sampler(options);
  std::array<double, 4> share{};
  for (int i = 0; i < kDraws; ++i) {
    share[static_cast<std::size_t>(sampler.pick(kLogits))] += 1.0 / kDraws;
  }
  return share;
}

}  // namespace

TEST_CASE("greedy takes the lowest id on a tie") {
  kv::Sampler sampler({});
  CHECK(sampler.pick(kLogits) == 1);
}

TEST_CASE("draws follow the softmax") {
  const auto share = frequencies({.temperature = 2, .seed = 7});
  double total = 0;
  for (const float x : kLogits) total += std::exp(x / 2.0);
  for (std::size_t i = 0; i < share.size(); ++i) {
    // Four standard errors of a share over 20,000 draws are at most 0.0142.
    CHECK(std::abs(share[i] - std::exp(kLogits[i] / 2.0) / total) < 0.0142);
  }
}

TEST_CASE("top-k and top-p leave the rest out") {
  const auto two = frequencies({.temperature = 1, .top_k = 2, .seed = 1});
  CHECK(two[0] == 0);
  CHECK(two[3] == 0);
  CHECK(two[1] > 0.45);
  const auto nucleus = frequencies({.temperature = 1, .top_p = 0.3, .seed = 1});
  CHECK(nucleus[1] == doctest::Approx(1));
}

TEST_CASE("the same seed draws the same tokens") {
  kv::Sampler a({.temperature = 1, .seed = 5}), b({.temperature = 1, .seed = 5});
  for (int i = 0; i < 100; ++i) CHECK(a.pick(kLogits) == b.pick(kLogits));
}

TEST_CASE("values out of range") {
  CHECK_THROWS_AS(kv::Sampler({.temperature = -1}), kv::Error);
  CHECK_THROWS_AS(kv::Sampler({.top_p = 0}), kv::Error);
  CHECK_THROWS_AS(kv::Sampler({.top_p = std::nan("")}), kv::Error);
  CHECK_THROWS_AS(kv::Sampler({.top_k = -1}), kv::Error);
}

TEST_CASE("negative log likelihood") {
  constexpr std::array<float, 2> even = {5.0f, 5.0f};
  CHECK(kv::negative_log_likelihood(even, 0) == doctest::Approx(std::log(2.0)));
}

TEST_CASE("stop strings are found across pieces and never shown") {
  kv::StopText stop({"END", "\n\n"});
  CHECK(stop.push("a E") == "a ");
  CHECK(stop.push("x") == "Ex");
  CHECK(stop.push("yEN") == "y");
  CHECK(stop.push("Dz") == "");
  CHECK(stop.stopped());
  kv::StopText open({"END"});
  CHECK(open.push("xEN") == "x");
  CHECK(open.finish() == "EN");
}
