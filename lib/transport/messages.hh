#pragma once
// The bodies of HELLO, WELCOME and CLOSE. Private to the folder; tokstream(5) has their grammar.

#include "kv/transport/envelope.hh"

namespace kv {

constexpr std::size_t kMaxName = 64;  // of a stream

// What is sealed; the salts stand before it in clear, for the keys come from them.
struct Hello {
  std::uint64_t offset = 0;
  std::uint64_t beginning = 0;  // XXH3-64 of the bytes before offset
  std::uint32_t previous = 0;   // the session that this one takes the place of, or 0
  std::string stream;
};
void encode_hello(const Hello& hello, Bytes& out);
bool parse_hello(ByteView body, Hello& hello);

struct Welcome {
  std::uint64_t offset = 0;
  bool ids = false;
};
void encode_welcome(const Welcome& welcome, Bytes& out);
bool parse_welcome(ByteView body, Welcome& welcome);

}  // namespace kv
