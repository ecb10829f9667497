#pragma once
// Bytes without repetitions through zstd's Huffman coder. Private to the folder.

#include "kv/base/bytes.hh"

#include <span>

namespace kv {

// One zstd frame, appended to `out`.
void append_zstd(std::span<const std::uint8_t> bytes, Bytes& out);
// Whether `frame` is exactly one zstd frame of exactly as many bytes as `into` has; fills it.
bool read_zstd(ByteView frame, std::span<std::uint8_t> into);

}  // namespace kv
