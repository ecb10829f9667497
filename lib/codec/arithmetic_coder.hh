#pragma once
// The binary arithmetic coder of CacheGen's public code: 32-bit bounds, 16-bit tables, the highest
// bit of a byte first. Private to the folder.
//
// A table of n symbols is n cumulative frequencies: strictly ascending from 0. The last symbol ends
// at 2^16.

#include "kv/base/bytes.hh"

#include <cstdint>
#include <span>

namespace kv {

using CumulativeTable = std::span<const std::uint16_t>;

// Whether a table from outside is one.
bool is_cumulative(CumulativeTable table);

class ArithmeticEncoder {
 public:
  void put(CumulativeTable table, std::uint32_t symbol);
  // The stream, filled with zeros to a byte; the next begins anew.
  Bytes finish();

 private:
  void put_bit(std::uint32_t bit);
  void put_bit_and_pending(std::uint32_t bit);

  Bytes bytes_;
  std::uint32_t low_ = 0, high_ = 0xFFFFFFFFu;
  std::uint64_t pending_ = 0;
  std::uint32_t held_ = 0;
  int held_bits_ = 0;
};

class ArithmeticDecoder {
 public:
  // Behind the stream there are zeros.
  explicit ArithmeticDecoder(ByteView stream);
  std::uint32_t get(CumulativeTable table);

 private:
  std::uint32_t next_bit();

  ByteView stream_;
  std::size_t next_ = 0;
  std::uint32_t held_ = 0;
  int held_bits_ = 0;
  std::uint32_t low_ = 0, high_ = 0xFFFFFFFFu, value_ = 0;
};

}  // namespace kv
