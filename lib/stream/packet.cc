#include "kv/stream/packet.hh"

#include "kv/stream/varint.hh"

namespace kv {
namespace {

constexpr unsigned kFin = 1, kPadded = 2, kUnit = 4;  // flags of a data packet
constexpr unsigned kDataFlags = kFin | kPadded | kUnit;
constexpr unsigned kWhole = 1;  // of an acknowledgement

constexpr std::uint64_t kMaxUnits = 64, kMaxKey = 0xFFFF, kMaxDelayUs = 60'000'000;
constexpr std::size_t kMaxRepairs = 4, kMinSymbol = 2, kMaxSymbol = 256;

std::size_t repairs_size(const DataPacket& packet) {
  std::size_t size = varint_size(*packet.unit) + 1;
  for (const Repair& repair : packet.repairs) {
    size += varint_size(*packet.unit - repair.first) + 1 + varint_size(repair.key) +
            varint_size(repair.symbol.size()) + repair.symbol.size();
  }
  return size;
}

bool take_byte(ByteView& in, unsigned& value) {
  if (in.empty()) return false;
  value = std::to_integer<unsigned>(in[0]);
  in = in.subspan(1);
  return true;
}

bool take_bytes(ByteView& in, std::uint64_t n, ByteView& part) {
  if (in.size() < n) return false;
  part = in.first(n);
  in = in.subspan(n);
  return true;
}

bool parse_repair(ByteView& in, std::uint64_t unit, Repair& repair) {
  std::uint64_t back = 0, key = 0, size = 0;
  unsigned count = 0;
  ByteView symbol;
  if (!take_varint(in, unit, back) || !take_byte(in, count) || count == 0 || count > kMaxUnits ||
      count > back || !take_varint(in, kMaxKey, key) || !take_varint(in, kMaxSymbol, size) ||
      size < kMinSymbol || !take_bytes(in, size, symbol)) {
    return false;
  }
  repair.first = unit - back;
  repair.count = count;
  repair.key = static_cast<std::uint32_t>(key);
  repair.symbol.assign(symbol.begin(), symbol.end());
  return true;
}

}  // namespace

std::size_t data_size_bytes(const DataPacket& packet) {
  const std::size_t coded = packet.unit ? repairs_size(packet) : 0;
  return 1 + varint_size(packet.offset) + (packet.fin ? sizeof *packet.fin : 0) + coded +
         packet.bytes.size();
}

void encode_data(const DataPacket& packet, std::size_t pad_to, Bytes& out) {
  const std::size_t over = pad_to > 1 ? packet.bytes.size() % pad_to : 0;
  // Without tokens there is nothing to hide; a number of zeros and then as many.
  const std::size_t padding = over > 0 ? pad_to - over : 0;
  out.push_back(static_cast<std::byte>((packet.fin ? kFin : 0) | (pad_to > 1 ? kPadded : 0) |
                                       (packet.unit ? kUnit : 0)));
  put_varint(out, packet.offset);
  if (packet.fin) {
    const auto digest = std::as_bytes(std::span(&*packet.fin, 1));
    out.insert(out.end(), digest.begin(), digest.end());
  }
  if (packet.unit) {
    put_varint(out, *packet.unit);
    out.push_back(static_cast<std::byte>(packet.repairs.size()));
    for (const Repair& repair : packet.repairs) {
      put_varint(out, *packet.unit - repair.first);
      out.push_back(static_cast<std::byte>(repair.count));
      put_varint(out, repair.key);
      put_varint(out, repair.symbol.size());
      out.insert(out.end(), repair.symbol.begin(), repair.symbol.end());
    }
  }
  if (pad_to > 1) {
    // Two bytes for the number whatever it is, or its size would tell what the zeros hide.
    out.push_back(static_cast<std::byte>(padding & 0xFF));
    out.push_back(static_cast<std::byte>(padding >> 8));
    out.resize(out.size() + padding);
  }
  out.insert(out.end(), packet.bytes.begin(), packet.bytes.end());
}

bool parse_data(ByteView in, DataPacket& packet) {
  unsigned flags = 0;
  if (!take_byte(in, flags) || (flags & ~kDataFlags) != 0 ||
      !take_varint(in, kMaxVarint, packet.offset)) {
    return false;
  }
  packet.fin.reset();
  if (flags & kFin) {
    ByteView digest;
    if (!take_bytes(in, sizeof *packet.fin, digest)) return false;
    std::memcpy(&packet.fin.emplace(), digest.data(), digest.size());
  }
  packet.unit.reset();
  packet.repairs.clear();
  if (flags & kUnit) {
    std::uint64_t unit = 0;
    unsigned repairs = 0;
    if (!take_varint(in, kMaxVarint, unit) || !take_byte(in, repairs) || repairs > kMaxRepairs) {
      return false;
    }
    packet.unit = unit;
    packet.repairs.resize(repairs);
    for (Repair& repair : packet.repairs) {
      if (!parse_repair(in, unit, repair)) return false;
    }
  }
  if (flags & kPadded) {
    unsigned low = 0, high = 0;
    ByteView zeros;
    if (!take_byte(in, low) || !take_byte(in, high) || !take_bytes(in, low | high << 8, zeros)) {
      return false;
    }
    for (const std::byte zero : zeros) {
      if (zero != std::byte{0}) return false;
    }
  }
  if (in.size() > kMaxVarint - packet.offset) return false;
  packet.bytes.assign(in.begin(), in.end());
  return true;
}

std::size_t ack_size_bytes(const AckPacket& packet) {
  std::size_t size =
      2 + varint_size(packet.received) + varint_size(packet.echo) + varint_size(packet.delay_us);
  for (const ByteRange& range : packet.ranges) {
    size += varint_size(range.begin - packet.received) + varint_size(range.end - range.begin);
  }
  return size;
}

void encode_ack(const AckPacket& packet, Bytes& out) {
  out.push_back(static_cast<std::byte>(packet.whole ? kWhole : 0));
  put_varint(out, packet.received);
  put_varint(out, packet.echo);
  put_varint(out, packet.delay_us);
  out.push_back(static_cast<std::byte>(packet.ranges.size()));
  for (const ByteRange& range : packet.ranges) {
    put_varint(out, range.begin - packet.received);
    put_varint(out, range.end - range.begin);
  }
}

bool parse_ack(ByteView in, AckPacket& packet) {
  unsigned flags = 0, ranges = 0;
  std::uint64_t delay_us = 0;
  if (!take_byte(in, flags) || (flags & ~kWhole) != 0 ||
      !take_varint(in, kMaxVarint, packet.received) || !take_varint(in, kMaxVarint, packet.echo) ||
      !take_varint(in, kMaxDelayUs, delay_us) || !take_byte(in, ranges) || ranges > kMaxAckRanges) {
    return false;
  }
  packet.whole = (flags & kWhole) != 0;
  packet.delay_us = static_cast<std::uint32_t>(delay_us);
  packet.ranges.resize(ranges);
  for (ByteRange& range : packet.ranges) {
    std::uint64_t gap = 0, size = 0;
    if (!take_varint(in, kMaxVarint - packet.received, gap) || gap == 0 ||
        !take_varint(in, kMaxVarint - packet.received - gap, size) || size == 0) {
      return false;
    }
    range = {packet.received + gap, packet.received + gap + size};
  }
  return in.empty();
}

}  // namespace kv
