// Profiles, and tiles of the codec `clp`: anything may come, and ends in kv::Error or in values.
// The first byte says which; hashes of profiles are made right, so that what is behind them is
// reached. 2: a tile that others are decoded before; 0, 4, ...: a profile, with which something is
// then coded; 1, 3, ...: a tile on its own.

#include "../unit/clp_samples.hh"
#include "kv/base/hash.hh"
#include "kv/codec/clp_tensor.hh"

#include <array>
#include <cstdlib>
#include <cstring>

namespace {

using kv::TileContext;

// Both ends must see the same of a tile, whatever the profile is.
void code_something(const kv::TensorProfile& profile) {
  constexpr std::int64_t kMostChannels = 64, kTokens = 5;
  if (profile.channels > kMostChannels) return;
  const kv::TensorCoder coder(profile);
  std::vector<float> values;
  for (std::int64_t i = 0; i < kTokens * profile.channels; ++i) {
    values.push_back(static_cast<float>(i * i % 61) - 30);
  }
  const kv::TensorView rows{
      kv::DType::kF32, {kTokens, 1, profile.channels}, std::as_bytes(std::span(values))};
  TileContext here, there;
  const kv::Bytes data =
      coder.encode({}, rows, 7, {.tokens = std::vector<std::int8_t>(kTokens)}, here);
  std::vector<float> back(values.size());
  coder.decode({}, data, "its own", kv::DType::kF32, std::as_writable_bytes(std::span(back)),
               there);
  if (here.steps != there.steps) std::abort();
  for (std::int64_t c = 0; c < profile.channels; ++c) {
    for (std::int64_t t = 0; t < kTokens; ++t) {
      if (here.values.value(c, t) != there.values.value(c, t)) std::abort();
    }
  }
}

void read_profile(kv::Bytes bytes) {
  constexpr std::size_t kHeader = 32;
  if (bytes.size() >= kHeader) {
    const std::uint64_t size = bytes.size();
    const std::uint64_t hash = kv::xxh3_64(kv::ByteView(bytes).subspan(kHeader));
    std::memcpy(bytes.data() + 16, &size, sizeof(size));
    std::memcpy(bytes.data() + 24, &hash, sizeof(hash));
  }
  const auto profile = kv::Profile::from_bytes(bytes, "fuzz");
  profile->restarts_at(1);
  if (!profile->tensors.empty()) code_something(profile->tensors.front());
}

constexpr std::int64_t kTokens = 70;

void read_tile(const kv::TensorProfile& profile, kv::TensorCoder::Context context,
               kv::ByteView bytes) {
  const kv::TensorCoder coder(profile);
  kv::Bytes rows(static_cast<std::size_t>(kTokens * kv::test::kChannels) * 2);
  TileContext decoded;
  coder.decode(context, bytes, "fuzz", kv::DType::kBF16, rows, decoded);
}

// The last tensor of the profile, behind three that are any.
void read_tile_behind_others(const kv::Profile& profile, kv::ByteView bytes) {
  static const std::array<TileContext, 3> before = [] {
    std::array<TileContext, 3> tiles;
    for (TileContext& tile : tiles) {
      tile.values.shape(kv::test::kChannels, kTokens);
      for (std::int64_t c = 0; c < kv::test::kChannels; ++c) {
        for (std::int64_t t = 0; t < kTokens; ++t) {
          tile.values.at(c, t) = static_cast<std::uint8_t>(1 + (c * 89 + t * 57) % 255);
        }
      }
      for (std::int64_t t = 0; t < kTokens; ++t) {
        tile.steps.push_back(static_cast<std::int8_t>(t % 33 - 16));
      }
    }
    return tiles;
  }();
  const std::array<const TileContext*, 3> context = {&before[0], &before[1], &before[2]};
  read_tile(profile.tensors.back(), context, bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const auto profile = kv::test::make_profile();
  const auto* bytes = reinterpret_cast<const std::byte*>(data + 1);
  try {
    if (data[0] == 2) {
      read_tile_behind_others(*profile, {bytes, size - 1});
    } else if (data[0] % 2 == 0) {
      read_profile(kv::Bytes(bytes, bytes + size - 1));
    } else {
      read_tile(profile->tensors.front(), {}, {bytes, size - 1});
    }
  } catch (const kv::Error&) {
  }
  return 0;
}
