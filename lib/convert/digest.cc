#include "kv/convert/digest.hh"

#include <openssl/evp.h>

namespace kv {
namespace {

// The first bytes of `to` are the digest; an algorithm that a strict configuration of the library
// forbids is an error of the machine.
void digest(const EVP_MD* kind, ByteView bytes, std::span<std::byte> to) {
  unsigned size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(to.data()), &size,
                 kind, nullptr) != 1 ||
      size != to.size()) {
    fail(ErrorKind::kDevice, "libcrypto refuses {}", EVP_MD_get0_name(kind));
  }
}

}  // namespace

Sha256 sha256(ByteView bytes) {
  Sha256 out{};
  digest(EVP_sha256(), bytes, out);
  return out;
}

std::string md5_hex(ByteView bytes) {
  std::array<std::byte, 16> out{};
  digest(EVP_md5(), bytes, out);
  return hex(out);
}

std::string hex(ByteView bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<int>(byte));
  return text;
}

}  // namespace kv
