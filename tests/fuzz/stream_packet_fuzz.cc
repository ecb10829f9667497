// Packets and saved states from anywhere: refused, or taken and then consistent.
#include "kv/stream/receiver.hh"
#include "kv/stream/sender.hh"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const kv::ByteView bytes = std::as_bytes(std::span(data, size)).subspan(1);
  kv::Bytes again;
  if (data[0] % 4 == 0) {
    kv::DataPacket packet;
    if (!kv::parse_data(bytes, packet)) return 0;
    kv::encode_data(packet, 1, again);
    if (again.size() != kv::data_size_bytes(packet)) std::abort();
  } else if (data[0] % 4 == 1) {
    kv::AckPacket packet;
    if (!kv::parse_ack(bytes, packet)) return 0;
    kv::encode_ack(packet, again);
    if (again.size() != bytes.size() || !std::equal(again.begin(), again.end(), bytes.begin())) {
      std::abort();
    }
  } else if (data[0] % 4 == 2) {
    // A row of packets, each with its size in front, into one receiver.
    kv::StreamReceiver receiver;
    kv::ByteView rest = bytes;
    std::uint64_t delivered = 0;
    for (kv::TimeNs now = 0; !rest.empty(); ++now) {
      const std::size_t part = std::min(std::to_integer<std::size_t>(rest[0]), rest.size() - 1);
      kv::DataPacket packet;
      if (kv::parse_data(rest.subspan(1, part), packet)) {
        receiver.receive(now, packet);
        delivered += receiver.fresh().size();
        kv::AckPacket ack;
        while (receiver.next_ack(now, ack)) {
          if (ack.received != delivered) std::abort();
        }
      }
      rest = rest.subspan(1 + part);
    }
    if (!(kv::StreamReceiver::restore(receiver.save()) == receiver)) std::abort();
  } else {
    kv::SenderOptions options;
    options.scheme = kv::parse_scheme("rack");
    try {
      kv::StreamReceiver receiver = kv::StreamReceiver::restore(bytes);
      receiver.receive(0, {.offset = receiver.received(), .bytes = kv::Bytes(3)});
    } catch (const kv::Error&) {
    }
    try {
      kv::StreamSender sender = kv::StreamSender::restore(options, bytes);
      kv::DataPacket packet;
      for (int i = 0; i < 100 && sender.next_packet(0, packet); ++i) {
      }
    } catch (const kv::Error&) {
    }
  }
  return 0;
}
