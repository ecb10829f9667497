#pragma once
// Numbers in bytes of 7 bits, the lowest first; the top bit of a byte says that another follows.
// Private to the folder.

#include "kv/base/bytes.hh"

#include <cstdint>

namespace kv {

inline void put_varint(ByteWriter& out, std::uint32_t value) {
  for (; value >= 0x80; value >>= 7) out.put(static_cast<std::uint8_t>(value | 0x80));
  out.put(static_cast<std::uint8_t>(value));
}

// Throws kInput, with `place`, above `most`.
inline std::uint32_t get_varint(ByteReader& in, std::uint32_t most, const std::string& place) {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 35; shift += 7) {
    const auto byte = in.get<std::uint8_t>();
    value |= std::uint64_t{byte & 0x7Fu} << shift;
    if (byte & 0x80) continue;
    if (value > most) break;
    return static_cast<std::uint32_t>(value);
  }
  fail_input("{}: byte {}: a number above {}", place, in.position(), most);
}

}  // namespace kv
