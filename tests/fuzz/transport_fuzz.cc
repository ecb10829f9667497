// Datagrams with a sound seal and any content, into both ends: one is dropped or does what it says.
#include "kv/transport/client.hh"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  kv::ServerOptions options;
  options.sender.scheme = kv::parse_scheme("fec:1");
  options.most_sessions = 4;
  kv::Bytes hello;
  kv::StreamServer server(options, [](const kv::Peer&, kv::ByteView) {});
  kv::StreamClient client(
      0, {}, [&](kv::ByteView datagram) { hello.assign(datagram.begin(), datagram.end()); },
      [](kv::ByteView) {});
  kv::Envelope envelope;
  if (!kv::parse_envelope(hello, false, envelope)) return 0;
  server.push(0, "", std::as_bytes(std::span(data, size)).first(size / 2));
  kv::ByteView rest = std::as_bytes(std::span(data, size));
  const kv::Seal seal(kv::SharedKey(), "", {}, {});
  kv::Bytes datagram;
  // A packet is its type, its number, its size and its body.
  for (kv::TimeNs now = 0; rest.size() >= 3; now += kv::kSecond) {
    envelope.type = static_cast<kv::PacketType>(1 + std::to_integer<unsigned>(rest[0]) % 5);
    envelope.number = std::to_integer<std::uint64_t>(rest[1]);
    const std::size_t part = std::min(std::to_integer<std::size_t>(rest[2]), rest.size() - 3);
    seal.close(envelope, {}, rest.subspan(3, part), datagram);
    rest = rest.subspan(3 + part);
    server.receive(now, "peer", datagram);
    client.receive(now, datagram);
    server.wake(now);
    client.wake(now);
  }
  return 0;
}
