#include "kv/transport/envelope.hh"

#include "kv/base/hash.hh"
#include "kv/stream/varint.hh"

#include <sodium.h>

#include <cstring>

namespace kv {
namespace {

// Bits 7 and 6 are the version, 01; bit 5 says that there is a key; the low three are the type.
constexpr unsigned kVersion = 0x40, kKeyed = 0x20, kVersionMask = 0xC0, kReserved = 0x18, kType = 7;
constexpr std::size_t kHashBytes = 8;
constexpr std::uint64_t kMaxNumber = (std::uint64_t{1} << 62) - 1;

void initialise() {
  static const int status = sodium_init();
  if (status < 0) fail(ErrorKind::kDevice, "libsodium cannot be used here");
}

std::size_t header_size(const Envelope& envelope) { return 5 + varint_size(envelope.number); }

const unsigned char* as_unsigned(ByteView bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

std::array<unsigned char, crypto_aead_chacha20poly1305_ietf_NPUBBYTES> nonce_of(
    std::uint64_t number) {
  std::array<unsigned char, crypto_aead_chacha20poly1305_ietf_NPUBBYTES> nonce{};
  std::memcpy(nonce.data() + 4, &number, sizeof number);
  return nonce;
}

}  // namespace

Salt random_salt() {
  initialise();
  Salt salt;
  randombytes_buf(salt.data(), salt.size());
  return salt;
}

std::uint32_t random_session() {
  initialise();
  return randombytes_random();
}

SharedKey::SharedKey(ByteView secret) : there_(true) {
  if (secret.size() < 16) fail_usage("a key of {} bytes: give 16 or more", secret.size());
  initialise();
  crypto_generichash(bytes_.data(), bytes_.size(), as_unsigned(secret), secret.size(), nullptr, 0);
}

Seal::Seal(const SharedKey& key, const char* purpose, const Salt& receiver, const Salt& sender)
    : keyed_(key.there()) {
  if (!keyed_) return;
  Bytes words = {std::byte{'t'}, std::byte{'o'}, std::byte{'k'}, std::byte{'1'}};
  const ByteView name = as_bytes(purpose);
  words.insert(words.end(), name.begin(), name.end());
  words.resize(12);
  words.insert(words.end(), receiver.begin(), receiver.end());
  words.insert(words.end(), sender.begin(), sender.end());
  crypto_generichash(key_.data(), key_.size(), as_unsigned(words), words.size(), key.bytes_.data(),
                     key.bytes_.size());
}

std::size_t Seal::overhead_bytes() const {
  return keyed_ ? crypto_aead_chacha20poly1305_ietf_ABYTES : kHashBytes;
}

void Seal::close(const Envelope& envelope, ByteView clear, ByteView body, Bytes& datagram) const {
  datagram.clear();
  datagram.push_back(static_cast<std::byte>(kVersion | (keyed_ ? kKeyed : 0) |
                                            static_cast<unsigned>(envelope.type)));
  const auto session = std::as_bytes(std::span(&envelope.session, 1));
  datagram.insert(datagram.end(), session.begin(), session.end());
  put_varint(datagram, envelope.number);
  datagram.insert(datagram.end(), clear.begin(), clear.end());
  const std::size_t head = datagram.size();
  datagram.resize(head + body.size() + overhead_bytes());
  auto* const at = reinterpret_cast<unsigned char*>(datagram.data());
  if (keyed_) {
    crypto_aead_chacha20poly1305_ietf_encrypt(at + head, nullptr, as_unsigned(body), body.size(),
                                              at, head, nullptr, nonce_of(envelope.number).data(),
                                              key_.data());
    return;
  }
  if (!body.empty()) std::memcpy(at + head, body.data(), body.size());
  const std::uint64_t hash = xxh3_64(ByteView(datagram).first(head + body.size()));
  std::memcpy(at + head + body.size(), &hash, sizeof hash);
}

bool Seal::open(const Envelope& envelope, std::size_t clear_bytes, ByteView datagram,
                Bytes& body) const {
  const std::size_t head = header_size(envelope) + clear_bytes;
  if (datagram.size() < head + overhead_bytes()) return false;
  const std::size_t size = datagram.size() - head - overhead_bytes();
  body.resize(size);
  if (keyed_) {
    return crypto_aead_chacha20poly1305_ietf_decrypt(
               reinterpret_cast<unsigned char*>(body.data()), nullptr, nullptr,
               as_unsigned(datagram) + head, size + overhead_bytes(), as_unsigned(datagram), head,
               nonce_of(envelope.number).data(), key_.data()) == 0;
  }
  const std::uint64_t hash = xxh3_64(datagram.first(head + size));
  if (std::memcmp(&hash, datagram.data() + head + size, sizeof hash) != 0) return false;
  if (size > 0) std::memcpy(body.data(), datagram.data() + head, size);
  return true;
}

bool parse_salt(const Envelope& envelope, ByteView datagram, Salt& salt) {
  const std::size_t header = header_size(envelope);
  if (datagram.size() < header + salt.size()) return false;
  std::memcpy(salt.data(), datagram.data() + header, salt.size());
  return true;
}

bool parse_envelope(ByteView datagram, bool keyed, Envelope& envelope) {
  if (datagram.size() < 6) return false;
  const auto first = std::to_integer<unsigned>(datagram[0]);
  if ((first & kVersionMask) != kVersion || (first & kReserved) != 0 ||
      ((first & kKeyed) != 0) != keyed || (first & kType) < 1 || (first & kType) > 5) {
    return false;
  }
  envelope.type = static_cast<PacketType>(first & kType);
  std::memcpy(&envelope.session, datagram.data() + 1, sizeof envelope.session);
  ByteView rest = datagram.subspan(5);
  return take_varint(rest, kMaxNumber, envelope.number);
}

bool ReplayWindow::take(std::uint64_t number) {
  if (!newest_) {
    newest_ = number;
    seen_ = 1;
    return true;
  }
  if (number > *newest_) {
    const std::uint64_t by = number - *newest_;
    seen_ = by < 64 ? seen_ << by | 1 : 1;
    newest_ = number;
    return true;
  }
  const std::uint64_t back = *newest_ - number;
  if (back >= 64 || (seen_ >> back & 1) != 0) return false;
  seen_ |= std::uint64_t{1} << back;
  return true;
}

}  // namespace kv
