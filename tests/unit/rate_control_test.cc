#include "kv/codec/rate_control.hh"

#include "kv/base/error.hh"

#include <doctest/doctest.h>

#include <cmath>

namespace {

using doctest::Approx;

std::shared_ptr<const kv::Profile> profile(int level, std::vector<kv::ProfilePoint> map) {
  auto made = std::make_shared<kv::Profile>();
  made->level = level;
  made->map = std::move(map);
  return made;
}

const auto kFine = profile(1, {{-8, 3.0, 1e-4}, {0, 1.6, 4e-4}, {8, 1.1, 2e-3}});
const auto kCoarse = profile(3, {{-4, 1.0, 3e-3}, {4, 0.5, 1.2e-2}});

TEST_CASE("between the points of a map by logarithms, nothing beyond them") {
  CHECK(kv::expected_at(*kFine, 0)->bits == 1.6);
  CHECK(kv::expected_at(*kFine, -4)->bits == Approx(std::sqrt(3.0 * 1.6)));
  CHECK(kv::expected_at(*kFine, -4)->kld == Approx(2e-4));
  CHECK_FALSE(kv::expected_at(*kFine, -9));
  CHECK_FALSE(kv::expected_at(*kFine, 9));
  CHECK_FALSE(kv::expected_at(*profile(2, {}), 0));
}

TEST_CASE("the coarsest step that is good enough, of all profiles") {
  const std::vector all = {kFine, kCoarse};
  kv::ChosenStep chosen = kv::step_for_kld(all, 4e-4, "-");
  CHECK(chosen.profile == kFine);
  CHECK(chosen.step == 0);
  chosen = kv::step_for_kld(all, 6.1e-3, "-");
  CHECK(chosen.profile == kCoarse);
  CHECK(chosen.step == 0);
  chosen = kv::step_for_kld(all, 1, "-");
  CHECK(chosen.step == 4);
  CHECK_THROWS_WITH_AS(kv::step_for_kld(all, 9e-5, "in.kv"),
                       doctest::Contains("in.kv: a KLD of 9e-05 is less than"), kv::Error);
  CHECK_THROWS_WITH_AS(kv::step_for_kld({profile(2, {})}, 1, "-"), doctest::Contains("map"),
                       kv::Error);
  CHECK_THROWS_AS(kv::step_for_kld({}, 1, "-"), kv::Error);
}

TEST_CASE("the best step that is small enough, of all profiles") {
  const std::vector all = {kFine, kCoarse};
  kv::ChosenStep chosen = kv::step_for_bits(all, 1.6, "-");
  CHECK(chosen.profile == kFine);
  CHECK(chosen.step == 0);
  chosen = kv::step_for_bits(all, 1.05, "-");
  CHECK(chosen.profile == kCoarse);
  CHECK(chosen.step == -4);
  CHECK_THROWS_WITH_AS(kv::step_for_bits(all, 0.4, "-"), doctest::Contains("0.50 to 3.00"),
                       kv::Error);
  CHECK_THROWS_AS(kv::step_for_bits(all, 3.5, "-"), kv::Error);
}

TEST_CASE("another level's profile, its step moved") {
  const auto chosen = kv::step_for_level({kFine, kCoarse}, 2);
  REQUIRE(chosen);
  CHECK(chosen->profile == kCoarse);  // 1.3 is nearer to 2.4 than to 0.65
  CHECK(chosen->step == std::lround(8 * std::log2(1.3 / 2.4)));
  CHECK(kv::step_for_level({kFine}, 1)->step == 0);
  CHECK_FALSE(kv::step_for_level({}, 2));
  CHECK_FALSE(kv::step_for_level({kFine}, 7));
}

}  // namespace
