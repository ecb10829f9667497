#pragma once
// What is around every packet of tokstream(5): its type, its session and a number, and a seal.
//
// With a key the seal is ChaCha20-Poly1305 (RFC 8439, by libsodium): nobody reads or changes a
// packet who does not have the key, and none is taken twice. Each session and direction has a key
// of its own, from the shared one and a random salt of each side, so that a number is used once
// with each. Without a key the seal is XXH3-64: it finds accidents, no forger; tools allow that on
// loopback only.

#include "kv/base/bytes.hh"

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace kv {

enum class PacketType : std::uint8_t { kHello = 1, kWelcome = 2, kData = 3, kAck = 4, kClose = 5 };

struct Envelope {
  PacketType type = PacketType::kData;
  std::uint32_t session = 0;
  std::uint64_t number = 0;
};

using Salt = std::array<std::byte, 16>;
Salt random_salt();
std::uint32_t random_session();

// The secret that both sides have, or none.
class SharedKey {
 public:
  SharedKey() = default;
  // From a file's content: 16 bytes at least. Throws kUsage.
  explicit SharedKey(ByteView secret);
  bool there() const { return there_; }

 private:
  friend class Seal;
  std::array<unsigned char, 32> bytes_{};
  bool there_ = false;
};

// Seals and opens the packets of one direction of one session.
class Seal {
 public:
  Seal() = default;
  // `purpose`, of 8 letters at most, and the salts tell this direction's key from all others.
  Seal(const SharedKey& key, const char* purpose, const Salt& receiver, const Salt& sender);

  // The whole datagram: header, `clear`, body (in clear too without a key), seal over all of them.
  void close(const Envelope& envelope, ByteView clear, ByteView body, Bytes& datagram) const;
  // The body of a datagram whose header parse_envelope read, behind `clear_bytes`; false when the
  // seal is not its.
  bool open(const Envelope& envelope, std::size_t clear_bytes, ByteView datagram,
            Bytes& body) const;
  std::size_t overhead_bytes() const;

 private:
  std::array<unsigned char, 32> key_{};
  bool keyed_ = false;
};

// Reads a header; false for what is none of this version. Says nothing about the seal.
bool parse_envelope(ByteView datagram, bool keyed, Envelope& envelope);

// The salt behind the header of a HELLO or a WELCOME; false where none is.
bool parse_salt(const Envelope& envelope, ByteView datagram, Salt& salt);

// Which numbers were there: each is taken once, and none that is 64 or more behind the newest.
class ReplayWindow {
 public:
  bool take(std::uint64_t number);
  // The newest so far, nothing before the first.
  std::optional<std::uint64_t> newest() const { return newest_; }

 private:
  std::optional<std::uint64_t> newest_;
  std::uint64_t seen_ = 0;  // bit i: newest - i
};

}  // namespace kv
