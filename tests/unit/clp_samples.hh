#pragma once
// A small profile for tests of the codec `clp`: two layers of 16 channels, random but sane.

#include "kv/codec/profile.hh"

#include <memory>
#include <random>
#include <string>

namespace kv::test {

using kv::format::Kind;

inline constexpr std::int64_t kHeads = 2, kDim = 8, kChannels = kHeads * kDim;
inline constexpr float kUnit = 1.0f / 64;

inline kv::TensorProfile tensor(std::uint32_t layer, Kind kind,
                                std::vector<kv::ContextSource> context, std::mt19937& random) {
  kv::TensorProfile t{.layer = layer, .kind = kind, .channels = kChannels, .context = context};
  t.inputs = static_cast<std::int64_t>(context.size()) * kChannels;
  const auto small = [&](int most) {
    return static_cast<std::int8_t>(static_cast<int>(random() % (2 * most + 1)) - most);
  };
  for (std::int64_t i = 0; i < kChannels * t.inputs; ++i) t.predictor.push_back(small(3));
  for (std::int64_t c = 0; c < kChannels; ++c) {
    for (std::int64_t k = 0; k < kChannels; ++k) {
      t.basis.push_back(static_cast<std::int8_t>(small(5) + (c == k ? 100 : 0)));
    }
    t.mean.push_back(0.25f * static_cast<float>(small(4)));
    t.unit.push_back(kUnit);
    t.gain.push_back(1);
    t.shift.push_back(4);
    t.shape.push_back(static_cast<kv::Shape>(random() % kv::kShapes));
    t.sigma.push_back(static_cast<std::int8_t>(20 - 3 * c));  // the last code nothing
  }
  return t;
}

inline std::shared_ptr<const kv::Profile> make_profile() {
  std::mt19937 random(7);
  kv::Profile profile;
  profile.model.fingerprint = std::string(32, 'a');
  profile.level = 2;
  profile.made_from = "a test";
  profile.map = {{-8, 2.5, 0.001}, {0, 1.5, 0.004}};
  profile.tensors.push_back(tensor(0, Kind::kV, {}, random));
  profile.tensors.push_back(tensor(0, Kind::kK, {{0, Kind::kV}}, random));
  profile.tensors.push_back(tensor(1, Kind::kV, {{1, Kind::kK}, {1, Kind::kV}}, random));
  profile.tensors.push_back(
      tensor(1, Kind::kK, {{1, Kind::kK}, {1, Kind::kV}, {0, Kind::kV}}, random));
  return kv::Profile::from_bytes(profile.to_bytes(), "profile");
}

}  // namespace kv::test
