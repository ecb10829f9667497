#pragma once
// The hashes that engines name their files by.

#include "kv/base/bytes.hh"

#include <array>
#include <string>

namespace kv {

using Sha256 = std::array<std::byte, 32>;
Sha256 sha256(ByteView bytes);
std::string md5_hex(ByteView bytes);
std::string hex(ByteView bytes);  // lower case

}  // namespace kv
