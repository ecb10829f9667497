#pragma once
// Codes of a few bits one after another, the first in the lowest bits of the first byte; the last
// byte is filled with zeros. Private to the folder.

#include "kv/base/bytes.hh"

#include <cstdint>

namespace kv {

constexpr std::size_t packed_bytes(std::size_t codes, int bits) {
  return (codes * static_cast<std::size_t>(bits) + 7) / 8;
}

class BitPacker {
 public:
  explicit BitPacker(ByteWriter& out) : out_(out) {}
  void put(std::uint32_t code, int bits) {  // code < 2^bits, bits <= 16
    held_ |= code << count_;
    for (count_ += bits; count_ >= 8; count_ -= 8) {
      out_.put(static_cast<std::uint8_t>(held_));
      held_ >>= 8;
    }
  }
  void finish() {
    if (count_ > 0) out_.put(static_cast<std::uint8_t>(held_));
    held_ = 0;
    count_ = 0;
  }

 private:
  ByteWriter& out_;
  std::uint32_t held_ = 0;
  int count_ = 0;  // bits held
};

class BitUnpacker {
 public:
  explicit BitUnpacker(ByteView bytes) : bytes_(bytes) {}
  std::uint32_t get(int bits) {  // bits <= 16; zeros behind the end
    for (; count_ < bits; count_ += 8, ++next_) {
      if (next_ >= bytes_.size()) continue;
      held_ |= std::to_integer<std::uint32_t>(bytes_[next_]) << count_;
    }
    const std::uint32_t code = held_ & ((1u << bits) - 1);
    held_ >>= bits;
    count_ -= bits;
    return code;
  }
  // Whether all bytes were asked for, no more, and the last is filled with zeros.
  bool finished() const { return next_ == bytes_.size() && held_ == 0; }

 private:
  ByteView bytes_;
  std::size_t next_ = 0;
  std::uint32_t held_ = 0;
  int count_ = 0;
};

}  // namespace kv
