// The codec `clp`: classes, profiles, tiles, members. Values are random; what must hold is that
// every target and any number of threads decode the same bits, that errors stay within the steps,
// and that damage is found.

#include "clp_layers.hh"
#include "kv/codec/clp_values.hh"

#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <random>
#include <stdexcept>

namespace {

using namespace kv::test;

TEST_CASE("classes: frequencies of all tables sum to 4096, wider classes cost more") {
  const kv::Classes& classes = kv::Classes::get();
  for (const std::vector<std::uint16_t>& table : classes.tables()) {
    int sum = 0;
    for (const std::uint16_t frequency : table) {
      CHECK(frequency >= 1);
      sum += frequency;
    }
    CHECK(sum == 4096);
  }
  for (int shape = 0; shape < kv::kShapes; ++shape) {
    const auto at = static_cast<kv::Shape>(shape);
    CHECK(classes.code(at, kv::kLeastCoded[static_cast<std::size_t>(shape)] - 1).zero);
    CHECK_FALSE(classes.code(at, kv::kLeastCoded[static_cast<std::size_t>(shape)]).zero);
    CHECK(classes.code(at, 40).low_bits == 4);  // 2^5 steps: below 4 after three halvings and one
    CHECK(classes.cost_bits(at, 24, 0) > classes.cost_bits(at, 8, 0));
  }
}

TEST_CASE("a profile comes back from its bytes, and not from fewer") {
  const auto profile = make_profile();
  kv::Profile copy = *profile;
  const kv::Bytes bytes = copy.to_bytes();
  CHECK(copy.hash == profile->hash);
  const auto again = kv::Profile::from_bytes(bytes, "again");
  CHECK(again->tensors.size() == 4);
  CHECK(again->tensors[3].predictor == profile->tensors[3].predictor);
  CHECK(again->map[1].kld == 0.004);
  CHECK(again->restarts_at(0));
  CHECK_FALSE(again->restarts_at(1));
  for (std::size_t size = 0; size < bytes.size(); size += 97) {
    CHECK_THROWS_AS(kv::Profile::from_bytes(kv::ByteView(bytes).first(size), "cut"), kv::Error);
  }
}

TEST_CASE("a profile has steps for caches that do not know what matters, where it has any") {
  kv::Profile profile = *make_profile();
  profile.tensors[2].even_step = -12;
  const auto again = kv::Profile::from_bytes(profile.to_bytes(), "again");
  CHECK(again->hash != make_profile()->hash);
  CHECK(again->tensors[1].even_step == 0);
  CHECK(again->tensors[2].even_step == -12);
  profile.tensors[2].even_step = 65;
  CHECK_THROWS_WITH_AS(kv::Profile::from_bytes(profile.to_bytes(), "far"),
                       doctest::Contains("even_step"), kv::Error);
}

TEST_CASE("without importance a tensor has the step that its profile has for that") {
  const std::int64_t tokens = 256;
  kv::Profile profile = *make_profile();
  profile.tensors[2].even_step = -12;  // of layer 1, values
  const kv::ClpOptions even{.profile = kv::Profile::from_bytes(profile.to_bytes(), "even")};
  const kv::ClpOptions plain{.profile = make_profile()};
  const std::vector<Layer> raw = raw_layers(tokens, 256);
  const auto error = [&](const kv::ClpOptions& options, bool important, std::size_t layer) {
    kv::ClpMember member(make_meta(tokens), "test", 1);
    if (important) member.set_importance(kv::Importance(4 * tokens, 100));
    std::vector<Layer> coded;
    for (const Layer& part : raw) coded.push_back({member.encode(part.tiles, options)});
    const std::vector<Layer> back = decoded(coded, tokens, options, 1);
    const auto values = [&](const std::vector<Layer>& layers) {
      return std::vector<Layer>{Layer{{layers[layer].tiles[1]}}};
    };
    return mean_square_error(values(raw), values(back));
  };
  CHECK(error(even, false, 0) == error(plain, false, 0));
  CHECK(error(even, false, 1) < 0.5 * error(plain, false, 1));
  // All tokens weigh alike: their step is the profile's.
  CHECK(error(even, true, 1) == error(plain, true, 1));
}

TEST_CASE("members come back within their steps, on every target and any number of threads") {
  for (const std::int64_t tokens : {1, 31, 64, 200, 1000}) {
    CAPTURE(tokens);
    const kv::ClpOptions options{.profile = make_profile()};
    const std::vector<Layer> raw = raw_layers(tokens, 128);
    const std::vector<Layer> coded = encoded(raw, tokens, options, 1);
    CHECK(same_data(coded, encoded(raw, tokens, options, 3)));
    const std::vector<Layer> back = decoded(coded, tokens, options, 1);
    // A step is about 100 * 2 * kUnit; coefficients that no class codes are lost whole.
    CHECK(worst_error(raw, back) < 60.0);
    CHECK(same_data(back, decoded(coded, tokens, options, 3)));
    each_target([&] { CHECK(same_data(back, decoded(coded, tokens, options, 1))); });
  }
}

TEST_CASE(
    "encoders of all targets lose the same and write as much, and all decode what they wrote") {
  const std::int64_t tokens = 700;
  const kv::ClpOptions options{.profile = make_profile(), .base_step = -8};
  const std::vector<Layer> raw = raw_layers(tokens, 256);
  const std::vector<Layer> coded = encoded(raw, tokens, options, 1);
  const double error = mean_square_error(raw, decoded(coded, tokens, options, 1));
  each_target([&] {
    const std::vector<Layer> other = encoded(raw, tokens, options, 1);
    CHECK(same_data(other, encoded(raw, tokens, options, 4)));
    CHECK(bytes_of(other) == doctest::Approx(bytes_of(coded)).epsilon(0.001));
    const double own = mean_square_error(raw, decoded(other, tokens, options, 2));
    CHECK(own == doctest::Approx(error).epsilon(0.001));
  });
}

TEST_CASE("several layers at a time decode as one after another") {
  const std::int64_t tokens = 300;
  const kv::ClpOptions options{.profile = make_profile()};
  const std::vector<Layer> coded = encoded(raw_layers(tokens, 128), tokens, options, 1);
  const std::vector<Layer> back = decoded(coded, tokens, options, 1);
  for (const int threads : {1, 2, 5}) {
    Layer all;
    for (const Layer& layer : coded) {
      all.tiles.insert(all.tiles.end(), layer.tiles.begin(), layer.tiles.end());
    }
    const Layer together = decoded({all}, tokens, options, threads).front();
    Layer expected;
    for (const Layer& layer : back) {
      expected.tiles.insert(expected.tiles.end(), layer.tiles.begin(), layer.tiles.end());
    }
    CHECK(same_data({together}, {expected}));
  }
}

TEST_CASE("values come back from their groups, in whatever order the steps bring tokens") {
  std::mt19937 random(3);
  const std::vector<kv::Shape> shape(8, kv::Shape::kGauss);
  const std::vector<std::int8_t> sigma = {20, 15, 9, 4, 0, -5, -10, -30};
  for (int round = 0; round < 300; ++round) {
    CAPTURE(round);
    const std::int64_t tokens = 61 + static_cast<std::int64_t>(random() % 200);
    kv::TileSteps steps{.tokens = std::vector<std::int8_t>(static_cast<std::size_t>(tokens))};
    for (std::int8_t& step : steps.tokens) {
      if (random() % 8 == 0) step = static_cast<std::int8_t>(static_cast<int>(random() % 7) - 3);
    }
    if (round == 0) {
      // The first group is 5, 60, 7, 8, ... 36: 36 - 5 = 31, as if they followed one another.
      steps.tokens.assign(static_cast<std::size_t>(tokens), 0);
      for (const std::size_t t : {0, 1, 2, 3, 4, 6}) steps.tokens[t] = 1;
      steps.tokens[5] = steps.tokens[60] = -1;
    }
    if (round % 3 == 1) steps.exact = {0, 9, 31};
    const kv::SymbolPlan plan(shape, sigma, steps);
    kv::Quads from, to;
    from.shape(8, tokens);
    to.shape(8, tokens);
    for (const kv::VectorTarget target : kv::vector_targets()) {
      kv::set_vector_target(target);
      for (std::int64_t k = 0; k < 8; ++k) {
        for (std::int64_t t = 0; t < tokens; ++t) {
          from.at(k, t) = static_cast<std::uint8_t>(random() % 255 + 1);
          to.at(k, t) = 77;
        }
      }
      kv::clear_uncoded(plan, from);
      std::vector<std::int8_t> values(plan.steps().size() * kv::SymbolPlan::kLanes);
      kv::take_values(plan, from, values.data());
      kv::place_values(plan, values.data(), to);
      bool same = true;
      for (std::int64_t k = 0; k < plan.used(); ++k) {
        for (std::int64_t t = 0; t < tokens; ++t) same &= from.value(k, t) == to.value(k, t);
      }
      CHECK(same);
    }
  }
  kv::set_vector_target(kv::vector_targets().front());
}

TEST_CASE("the variant of a loop that runs is the one that was chosen") {
  using Names = kv::VectorVariants<const char*()>;
  const Names all = {[] { return "baseline"; }, [] { return "avx2"; }, [] { return "avx512"; }};
  const Names few = {[] { return "baseline"; }, nullptr, nullptr};
  for (const kv::VectorTarget target : kv::vector_targets()) {
    kv::set_vector_target(target);
    CHECK(std::string(all.chosen()()) == kv::vector_target_name(target));
    CHECK(std::string(few.chosen()()) == "baseline");
  }
  kv::set_vector_target(kv::vector_targets().front());
  if (kv::vector_targets().size() < 3) {
    CHECK_THROWS_AS(kv::set_vector_target(kv::VectorTarget::kAvx512), std::invalid_argument);
  }
}

TEST_CASE("workers do all work once and throw the first error by number") {
  for (const int threads : {1, 2, 7}) {
    kv::Workers workers(threads);
    for (int round = 0; round < 50; ++round) {
      std::vector<std::atomic<int>> times(20);
      workers.each(times.size(), [&](std::size_t i) { ++times[i]; });
      for (const std::atomic<int>& count : times) CHECK(count == 1);
      CHECK_THROWS_WITH(workers.each(9,
                                     [&](std::size_t i) {
                                       if (i % 4 == 3) throw std::runtime_error(std::to_string(i));
                                     }),
                        "3");
    }
  }
}

TEST_CASE("finer steps give smaller errors and more bytes") {
  const std::int64_t tokens = 256;
  const std::vector<Layer> raw = raw_layers(tokens, 256);
  double last_error = 1e9;
  double last_bytes = 0;
  for (const int step : {8, 0, -8, -24}) {
    const kv::ClpOptions options{.profile = make_profile(), .base_step = step};
    const std::vector<Layer> coded = encoded(raw, tokens, options, 1);
    const double bytes = bytes_of(coded);
    const double error = mean_square_error(raw, decoded(coded, tokens, options, 1));
    CHECK(error < last_error);
    CHECK(bytes > last_bytes);
    last_error = error;
    last_bytes = bytes;
  }
  CHECK(last_error < 0.1);
}

TEST_CASE("what is not finite is kept as it is, and important tokens are exact") {
  const std::int64_t tokens = 100;
  std::vector<Layer> raw = raw_layers(tokens, 100);
  auto* values = reinterpret_cast<float*>(raw[0].tiles[0].data.data());
  values[5 * kChannels + 3] = NAN;
  values[9 * kChannels] = INFINITY;
  kv::Importance importance(4 * tokens, 100);
  importance[17] = importance[100 + 17] = importance[200 + 17] = importance[300 + 17] = 250;
  const kv::ClpOptions options{.profile = make_profile()};
  kv::ClpMember member(make_meta(tokens), "test", 1);
  member.set_importance(importance);
  std::vector<Layer> coded;
  for (const Layer& layer : raw) coded.push_back({member.encode(layer.tiles, options)});
  const std::vector<Layer> back = decoded(coded, tokens, options, 1);
  const auto row = [&](const std::vector<Layer>& layers, std::size_t tile, std::int64_t token) {
    const auto begin = layers[0].tiles[tile].data.begin() + token * kChannels * 4;
    return kv::Bytes(begin, begin + kChannels * 4);
  };
  for (const std::int64_t token : {5, 9, 17}) CHECK(row(back, 0, token) == row(raw, 0, token));
  CHECK(row(back, 1, 17) == row(raw, 1, 17));
  CHECK(row(back, 0, 18) != row(raw, 0, 18));
}

TEST_CASE("a layer without the one before it is refused") {
  const std::int64_t tokens = 64;
  const kv::ClpOptions options{.profile = make_profile()};
  std::vector<Layer> coded = encoded(raw_layers(tokens, 64), tokens, options, 1);
  coded.erase(coded.begin());
  CHECK_THROWS_WITH_AS(decoded(coded, tokens, options, 1), doctest::Contains("layer 0"), kv::Error);
}

}  // namespace
