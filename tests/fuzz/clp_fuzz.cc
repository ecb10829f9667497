// Profiles, and tiles of the codec `clp` under one that is sound: anything may come, and ends in
// kv::Error or in values. The first byte says which; hashes of profiles are made right, so that
// what is behind them is reached.

#include "../unit/clp_samples.hh"
#include "kv/base/hash.hh"
#include "kv/codec/clp_tensor.hh"

#include <cstring>

namespace {

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
  if (!profile->tensors.empty()) kv::TensorCoder coder(profile->tensors.front());
}

void read_tile(kv::ByteView bytes) {
  static const auto profile = kv::test::make_profile();
  static const kv::TensorCoder coder(profile->tensors[0]);
  constexpr std::size_t kTokens = 70;
  kv::Bytes rows(kTokens * kv::test::kChannels * 2);
  kv::TileContext decoded;
  coder.decode({}, bytes, "fuzz", kv::DType::kBF16, rows, decoded);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto* bytes = reinterpret_cast<const std::byte*>(data + 1);
  try {
    if (data[0] % 2 == 0) {
      read_profile(kv::Bytes(bytes, bytes + size - 1));
    } else {
      read_tile({bytes, size - 1});
    }
  } catch (const kv::Error&) {
  }
  return 0;
}
