// The codec `clp`: classes, profiles, tiles, members. Values are random; what must hold is that
// every target and any number of threads decode the same bits, that errors stay within the steps,
// and that damage is found.

#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include "clp_samples.hh"
#include "kv/codec/clp_member.hh"
#include "kv/kernels/epilogue.hh"
#include "kv/kernels/rans.hh"

#include <doctest/doctest.h>
#include <hwy/targets.h>

#include <atomic>
#include <cmath>
#include <random>
#include <stdexcept>

namespace {

using namespace kv::test;

kv::Meta make_meta(std::int64_t tokens) {
  kv::Meta meta;
  for (std::uint32_t layer = 0; layer < 2; ++layer) {
    meta.layers.push_back({layer, {.kv_heads = kHeads, .k_dim = kDim, .v_dim = kDim}});
  }
  meta.dtype = kv::DType::kF32;
  meta.token_count = tokens;
  return meta;
}

std::vector<float> random_rows(std::int64_t tokens, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 8.0f);
  std::vector<float> rows(static_cast<std::size_t>(tokens * kChannels));
  for (float& value : rows) value = normal(random);
  return rows;
}

struct Layer {
  std::vector<kv::OwnedTile> tiles;  // K then V, in cuts
};

// Both layers of a member as raw tiles, cut after each `step` tokens.
std::vector<Layer> raw_layers(std::int64_t tokens, std::int64_t step) {
  std::vector<Layer> layers(2);
  for (std::uint32_t layer = 0; layer < 2; ++layer) {
    for (const Kind kind : {Kind::kK, Kind::kV}) {
      const std::vector<float> rows =
          random_rows(tokens, 2 * layer + static_cast<std::uint32_t>(kind == Kind::kV));
      const kv::ByteView bytes = std::as_bytes(std::span(rows));
      for (std::int64_t first = 0; first < tokens; first += step) {
        const std::int64_t count = std::min(step, tokens - first);
        kv::OwnedTile& tile = layers[layer].tiles.emplace_back();
        tile.header = {.kind = kind,
                       .dtype = kv::DType::kF32,
                       .layer = layer,
                       .token_begin = static_cast<std::uint64_t>(first),
                       .token_count = static_cast<std::uint32_t>(count)};
        const kv::ByteView part = bytes.subspan(static_cast<std::size_t>(first * kChannels) * 4,
                                                static_cast<std::size_t>(count * kChannels) * 4);
        tile.data.assign(part.begin(), part.end());
      }
    }
  }
  return layers;
}

std::vector<Layer> encoded(const std::vector<Layer>& raw, std::int64_t tokens,
                           const kv::ClpOptions& options, int threads) {
  kv::ClpMember member(make_meta(tokens), "test", threads);
  std::vector<Layer> out;
  for (const Layer& layer : raw) out.push_back({member.encode(layer.tiles, options)});
  return out;
}

// The decoder looks profiles up by their hash: it is told of this one by encoding nothing with it.
std::vector<Layer> decoded(const std::vector<Layer>& coded, std::int64_t tokens,
                           const kv::ClpOptions& options, int threads) {
  kv::ClpMember member(make_meta(tokens), "test", threads);
  member.encode({}, options);
  std::vector<Layer> out;
  for (const Layer& layer : coded) out.push_back({member.decode(layer.tiles)});
  return out;
}

bool same_data(const std::vector<Layer>& a, const std::vector<Layer>& b) {
  for (std::size_t l = 0; l < a.size(); ++l) {
    if (a[l].tiles.size() != b[l].tiles.size()) return false;
    for (std::size_t i = 0; i < a[l].tiles.size(); ++i) {
      if (a[l].tiles[i].data != b[l].tiles[i].data) return false;
    }
  }
  return true;
}

double mean_square_error(const std::vector<Layer>& a, const std::vector<Layer>& b) {
  double sum = 0, count = 0;
  for (std::size_t l = 0; l < a.size(); ++l) {
    for (std::size_t i = 0; i < a[l].tiles.size(); ++i) {
      const auto* x = reinterpret_cast<const float*>(a[l].tiles[i].data.data());
      const auto* y = reinterpret_cast<const float*>(b[l].tiles[i].data.data());
      for (std::size_t v = 0; v < a[l].tiles[i].data.size() / 4; ++v, ++count) {
        sum += (double(x[v]) - double(y[v])) * (double(x[v]) - double(y[v]));
      }
    }
  }
  return sum / count;
}

double worst_error(const std::vector<Layer>& a, const std::vector<Layer>& b) {
  double worst = 0;
  for (std::size_t l = 0; l < a.size(); ++l) {
    for (std::size_t i = 0; i < a[l].tiles.size(); ++i) {
      const auto* x = reinterpret_cast<const float*>(a[l].tiles[i].data.data());
      const auto* y = reinterpret_cast<const float*>(b[l].tiles[i].data.data());
      for (std::size_t v = 0; v < a[l].tiles[i].data.size() / 4; ++v) {
        if (std::isfinite(x[v])) worst = std::max(worst, std::fabs(double(x[v]) - double(y[v])));
      }
    }
  }
  return worst;
}

double bytes_of(const std::vector<Layer>& layers) {
  double bytes = 0;
  for (const Layer& layer : layers) {
    for (const kv::OwnedTile& tile : layer.tiles) bytes += static_cast<double>(tile.data.size());
  }
  return bytes;
}

// With each kernel in turn, the others at their best; then with all scalar.
template <typename F>
void each_target(F&& use) {
  const auto best = [] {
    kv::set_dot_target(kv::dot_targets().front());
    kv::set_epilogue_target(kv::epilogue_targets().front());
    kv::set_rans_target(kv::rans_best_target());
    hwy::DisableTargets(0);
  };
  for (const kv::DotTarget target : kv::dot_targets()) {
    CAPTURE(kv::dot_target_name(target));
    kv::set_dot_target(target);
    use();
  }
  best();
  for (const kv::EpilogueTarget target : kv::epilogue_targets()) {
    CAPTURE(kv::epilogue_target_name(target));
    kv::set_epilogue_target(target);
    use();
  }
  best();
  for (const kv::RansTarget target : {kv::RansTarget::kAvx512, kv::RansTarget::kAvx2}) {
    if (!kv::rans_has_target(target)) continue;
    CAPTURE(kv::rans_target_name(target));
    kv::set_rans_target(target);
    use();
  }
  best();
  for (std::int64_t targets = hwy::SupportedTargets(); targets != 0; targets &= targets - 1) {
    const std::int64_t target = targets & -targets;
    CAPTURE(hwy::TargetName(target));
    hwy::DisableTargets(~target);
    use();
    hwy::DisableTargets(0);
  }
  kv::set_dot_target(kv::DotTarget::kScalar);
  kv::set_epilogue_target(kv::EpilogueTarget::kScalar);
  kv::set_rans_target(kv::RansTarget::kScalar);
  use();
  best();
}

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

TEST_CASE("a profile comes back from its bytes, and damage to it is found") {
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
  for (std::size_t i = 0; i < bytes.size(); i += 7) {
    kv::Bytes damaged = bytes;
    damaged[i] ^= std::byte{0x10};
    CHECK_THROWS_AS(kv::Profile::from_bytes(damaged, "damaged"), kv::Error);
  }
  for (std::size_t size = 0; size < bytes.size(); size += 97) {
    CHECK_THROWS_AS(kv::Profile::from_bytes(kv::ByteView(bytes).first(size), "cut"), kv::Error);
  }
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

TEST_CASE("every flipped byte and every truncation of a tile ends in an error or in some values") {
  const std::int64_t tokens = 64;
  const kv::ClpOptions options{.profile = make_profile()};
  const std::vector<Layer> coded = encoded(raw_layers(tokens, 64), tokens, options, 1);
  int refused = 0;
  const auto attempt = [&](std::vector<Layer> layers) {
    try {
      decoded(layers, tokens, options, 1);
    } catch (const kv::Error& error) {
      CHECK(error.kind() == kv::ErrorKind::kInput);
      ++refused;
    }
  };
  const std::size_t size = coded[0].tiles[1].data.size();
  for (std::size_t i = 0; i < size; ++i) {
    std::vector<Layer> damaged = coded;
    damaged[0].tiles[1].data[i] ^= std::byte{0x41};
    attempt(std::move(damaged));
  }
  CHECK(refused > 0);
  refused = 0;
  for (std::size_t cut = 0; cut < size; ++cut) {
    std::vector<Layer> damaged = coded;
    damaged[0].tiles[1].data.resize(cut);
    attempt(std::move(damaged));
  }
  CHECK(refused == static_cast<int>(size));
}

TEST_CASE("a layer without the one before it is refused") {
  const std::int64_t tokens = 64;
  const kv::ClpOptions options{.profile = make_profile()};
  std::vector<Layer> coded = encoded(raw_layers(tokens, 64), tokens, options, 1);
  coded.erase(coded.begin());
  CHECK_THROWS_WITH_AS(decoded(coded, tokens, options, 1), doctest::Contains("layer 0"), kv::Error);
}

}  // namespace
