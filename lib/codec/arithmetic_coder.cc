#include "arithmetic_coder.hh"

#include <algorithm>
#include <functional>

namespace kv {
namespace {

constexpr std::uint32_t kHalf = 1u << 31, kQuarter = 1u << 30;
constexpr std::uint64_t kOne = 1u << 16;

// The part of [low, high] that is the symbol's.
void narrow(CumulativeTable table, std::uint32_t symbol, std::uint32_t& low, std::uint32_t& high) {
  const std::uint64_t span = std::uint64_t{high} - low + 1;
  const std::uint64_t end = symbol + 1 < table.size() ? table[symbol + 1] : kOne;
  high = static_cast<std::uint32_t>(low + (span * end >> 16) - 1);
  low = static_cast<std::uint32_t>(low + (span * table[symbol] >> 16));
}

}  // namespace

bool is_cumulative(CumulativeTable table) {
  return !table.empty() && table[0] == 0 &&
         std::adjacent_find(table.begin(), table.end(), std::greater_equal<>()) == table.end();
}

void ArithmeticEncoder::put_bit(std::uint32_t bit) {
  held_ = held_ << 1 | bit;
  if (++held_bits_ < 8) return;
  bytes_.push_back(static_cast<std::byte>(held_));
  held_ = 0;
  held_bits_ = 0;
}

void ArithmeticEncoder::put_bit_and_pending(std::uint32_t bit) {
  put_bit(bit);
  for (; pending_ > 0; --pending_) put_bit(1 - bit);
}

void ArithmeticEncoder::put(CumulativeTable table, std::uint32_t symbol) {
  narrow(table, symbol, low_, high_);
  for (;;) {
    if (high_ < kHalf) {
      put_bit_and_pending(0);
    } else if (low_ >= kHalf) {
      put_bit_and_pending(1);
    } else if (low_ >= kQuarter && high_ < kHalf + kQuarter) {
      ++pending_;
      low_ -= kQuarter;
      high_ -= kQuarter;
    } else {
      return;
    }
    low_ <<= 1;
    high_ = high_ << 1 | 1;
  }
}

Bytes ArithmeticEncoder::finish() {
  ++pending_;
  put_bit_and_pending(low_ < kQuarter ? 0 : 1);
  while (held_bits_ > 0) put_bit(0);
  Bytes stream;
  stream.swap(bytes_);
  low_ = 0;
  high_ = 0xFFFFFFFFu;
  return stream;
}

ArithmeticDecoder::ArithmeticDecoder(ByteView stream) : stream_(stream) {
  for (int i = 0; i < 32; ++i) value_ = value_ << 1 | next_bit();
}

std::uint32_t ArithmeticDecoder::next_bit() {
  if (held_bits_ == 0) {
    held_ = next_ < stream_.size() ? std::to_integer<std::uint32_t>(stream_[next_++]) : 0;
    held_bits_ = 8;
  }
  return held_ >> --held_bits_ & 1;
}

std::uint32_t ArithmeticDecoder::get(CumulativeTable table) {
  const std::uint64_t span = std::uint64_t{high_} - low_ + 1;
  const std::uint64_t at = ((std::uint64_t{value_} - low_ + 1) * kOne - 1) / span;
  const auto above = std::upper_bound(table.begin(), table.end(), at);
  const auto symbol = static_cast<std::uint32_t>(above - table.begin() - 1);
  narrow(table, symbol, low_, high_);
  for (;;) {
    if (high_ < kHalf) {
    } else if (low_ >= kHalf) {
    } else if (low_ >= kQuarter && high_ < kHalf + kQuarter) {
      low_ -= kQuarter;
      high_ -= kQuarter;
      value_ -= kQuarter;
    } else {
      return symbol;
    }
    low_ <<= 1;
    high_ = high_ << 1 | 1;
    value_ = value_ << 1 | next_bit();
  }
}

}  // namespace kv
