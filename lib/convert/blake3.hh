#pragma once
// BLAKE3's hash of 256 bits, plain. Private to the folder.

#include "kv/convert/digest.hh"

namespace kv {

std::array<std::byte, 32> blake3(ByteView bytes);

}  // namespace kv
