#pragma once
// XXH3 (xxHash 0.8): 64 bits against accidents in files, 128 bits for fingerprints. Neither is a
// defence against a forger.

#include "kv/base/bytes.hh"

#include <cstdint>
#include <memory>
#include <string>

namespace kv {

std::uint64_t xxh3_64(ByteView bytes, std::uint64_t seed = 0);

// XXH3-64 of bytes that come in pieces: the same value as xxh3_64 of the whole.
class StreamHash {
 public:
  StreamHash();
  ~StreamHash();
  StreamHash(StreamHash&&) noexcept;
  StreamHash& operator=(StreamHash&&) noexcept;

  void reset();
  void add(ByteView bytes);
  std::uint64_t value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// 128-bit streaming hash; hex() is 32 lower-case digits, as `xxhsum -H2` prints.
class Fingerprint {
 public:
  Fingerprint();
  ~Fingerprint();
  Fingerprint(const Fingerprint&) = delete;
  Fingerprint& operator=(const Fingerprint&) = delete;

  void add(ByteView bytes);
  // Length-prefixed, so that ("ab", "c") and ("a", "bc") differ.
  void add_text(std::string_view text);
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kv
