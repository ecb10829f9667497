#pragma once
// Packets between a sender of tokens and a receiver, as values and as bytes: tokstream(5).
//
// A stream is a sequence of bytes, UTF-8 text or token ids as varints, and has an end. Positions in
// it are byte offsets, as in TCP and QUIC (RFC 9000, section 2.2): tokens need no length of their
// own on the wire. A sender cuts only between tokens, so what was delivered ends with a token.

#include "kv/base/bytes.hh"

#include <cstdint>
#include <optional>
#include <variant>

namespace kv {

constexpr std::uint64_t kMaxVarint = (std::uint64_t{1} << 62) - 1;  // of every number below

// A combination of source symbols, fec.hh. The symbols are those of `count` units from `first`.
struct Repair {
  std::uint64_t first = 0;
  std::uint32_t count = 0;  // 1 to 64
  std::uint32_t key = 0;    // seeds the coefficients
  Bytes symbol;             // 2 to 256 bytes

  bool operator==(const Repair&) const = default;
};

struct DataPacket {
  std::uint64_t number = 0;  // ascending from 1, never used twice in a session
  std::uint64_t offset = 0;  // of the first of `bytes`
  Bytes bytes;               // whole tokens; none: the sender is there, or this is the end
  // Nothing follows behind `bytes`: the XXH3-64 of the whole stream, from its first byte.
  std::optional<std::uint64_t> fin;
  // fec only: `bytes` are the unit with this number, and combinations of others come with it.
  std::optional<std::uint64_t> unit;
  std::vector<Repair> repairs;  // 4 at most

  bool operator==(const DataPacket&) const = default;
};

struct ByteRange {
  std::uint64_t begin = 0, end = 0;
  bool operator==(const ByteRange&) const = default;
  template <typename Self, typename F>
  static void fields(Self& self, F& f) {
    f(self.begin, self.end);
  }
};

constexpr std::size_t kMaxAckRanges = 4;

struct AckPacket {
  std::uint64_t number = 0;
  std::uint64_t received = 0;     // all bytes before this offset were delivered
  bool whole = false;             // and they are the whole stream
  std::uint64_t echo = 0;         // number of the packet that this one answers, 0: of none
  std::uint32_t delay_us = 0;     // from its arrival to this answer
  std::vector<ByteRange> ranges;  // received beyond, the newest first, kMaxAckRanges at most

  bool operator==(const AckPacket&) const = default;
};

// Sizes of what encode_data and encode_ack append.
std::size_t data_size_bytes(const DataPacket& packet);
std::size_t ack_size_bytes(const AckPacket& packet);

// The part of a packet behind type, session and number; pad_to > 1 fills `bytes` up to a multiple,
// so that a packet's size does not tell the lengths of its tokens.
void encode_data(const DataPacket& packet, std::size_t pad_to, Bytes& out);
void encode_ack(const AckPacket& packet, Bytes& out);

// Of exactly these bytes; false for what the grammar does not have. `packet` keeps its memory, its
// number is left alone.
bool parse_data(ByteView bytes, DataPacket& packet);
bool parse_ack(ByteView bytes, AckPacket& packet);

}  // namespace kv
