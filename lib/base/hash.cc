#include "kv/base/hash.hh"

// The shared library's plain functions are SSE2; its dispatching ones take the widest vectors that
// the machine has, 3 times as fast with AVX-512. Not every build of it has them.
#define XXH_STATIC_LINKING_ONLY  // the size of a state
#ifdef KV_XXHASH_DISPATCH
#include <xxh_x86dispatch.h>
#else
#define XXH_INLINE_ALL
#include <xxhash.h>
#endif

namespace kv {

std::uint64_t xxh3_64(ByteView bytes, std::uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

struct StreamHash::State {
  XXH3_state_t xxh;
};

StreamHash::StreamHash() : state_(std::make_unique<State>()) { reset(); }
StreamHash::~StreamHash() = default;
StreamHash::StreamHash(StreamHash&&) noexcept = default;
StreamHash& StreamHash::operator=(StreamHash&&) noexcept = default;

void StreamHash::reset() { XXH3_64bits_reset(&state_->xxh); }
void StreamHash::add(ByteView bytes) {
  XXH3_64bits_update(&state_->xxh, bytes.data(), bytes.size());
}
std::uint64_t StreamHash::value() const { return XXH3_64bits_digest(&state_->xxh); }

struct Fingerprint::State {
  XXH3_state_t xxh;
};

Fingerprint::Fingerprint() : state_(std::make_unique<State>()) { XXH3_128bits_reset(&state_->xxh); }
Fingerprint::~Fingerprint() = default;

void Fingerprint::add(ByteView bytes) {
  XXH3_128bits_update(&state_->xxh, bytes.data(), bytes.size());
}

void Fingerprint::add_text(std::string_view text) {
  const std::uint64_t size = text.size();
  add(std::as_bytes(std::span(&size, 1)));
  add(as_bytes(text));
}

std::string Fingerprint::hex() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->xxh);
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace kv
