#pragma once
// Numbers in bytes of 7 bits, the lowest first; the top bit of a byte says that another follows.
// The shortest form only, so that a packet has one encoding.

#include "kv/base/bytes.hh"

#include <bit>
#include <cstdint>

namespace kv {

inline std::size_t varint_size(std::uint64_t value) {
  return (static_cast<std::size_t>(std::bit_width(value | 1)) + 6) / 7;
}

inline void put_varint(Bytes& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<std::byte>(value | 0x80));
  out.push_back(static_cast<std::byte>(value));
}

// Takes the number off the front; false when there is none, one above `most` or a longer form.
inline bool take_varint(ByteView& in, std::uint64_t most, std::uint64_t& value) {
  value = 0;
  for (std::size_t i = 0; i < 9 && i < in.size(); ++i) {
    const auto byte = std::to_integer<std::uint64_t>(in[i]);
    value |= (byte & 0x7F) << (7 * i);
    if (byte & 0x80) continue;
    if ((byte == 0 && i > 0) || value > most) return false;
    in = in.subspan(i + 1);
    return true;
  }
  return false;
}

}  // namespace kv
