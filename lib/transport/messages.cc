#include "kv/transport/messages.hh"

#include "kv/stream/packet.hh"
#include "kv/stream/varint.hh"

#include <algorithm>
#include <cstring>

namespace kv {
namespace {

// A HELLO is no smaller than what answers it, so that nobody can have others flooded by a sender.
constexpr std::size_t kHelloBytes = 64;

}  // namespace

void encode_hello(const Hello& hello, Bytes& out) {
  out.clear();
  put_varint(out, hello.offset);
  const auto beginning = std::as_bytes(std::span(&hello.beginning, 1));
  out.insert(out.end(), beginning.begin(), beginning.end());
  put_varint(out, hello.previous);
  put_varint(out, hello.stream.size());
  const ByteView name = as_bytes(hello.stream);
  out.insert(out.end(), name.begin(), name.end());
  out.resize(std::max(out.size(), kHelloBytes));
}

bool parse_hello(ByteView body, Hello& hello) {
  if (body.size() < kHelloBytes) return false;
  std::uint64_t size = 0, previous = 0;
  if (!take_varint(body, kMaxVarint, hello.offset) || body.size() < sizeof hello.beginning) {
    return false;
  }
  std::memcpy(&hello.beginning, body.data(), sizeof hello.beginning);
  body = body.subspan(sizeof hello.beginning);
  if (!take_varint(body, 0xFFFFFFFF, previous) || !take_varint(body, kMaxName, size) ||
      body.size() < size) {
    return false;
  }
  hello.previous = static_cast<std::uint32_t>(previous);
  hello.stream = as_text(body.first(size));
  return true;
}

void encode_welcome(const Welcome& welcome, Bytes& out) {
  out.clear();
  put_varint(out, welcome.offset);
  out.push_back(static_cast<std::byte>(welcome.ids ? 1 : 0));
}

bool parse_welcome(ByteView body, Welcome& welcome) {
  if (!take_varint(body, kMaxVarint, welcome.offset) || body.size() != 1) return false;
  const auto kind = std::to_integer<unsigned>(body[0]);
  welcome.ids = kind == 1;
  return kind <= 1;
}

}  // namespace kv
