#pragma once
// tokstream-send and tokstream-recv: sockets, clocks and files around server.hh and client.hh.

#include "kv/base/file.hh"
#include "kv/transport/client.hh"
#include "kv/transport/udp.hh"

namespace kv {

struct SendOptions {
  ServerOptions server;
  HostPort listen;
  // A line {"text": "...", "stream": "...", "end": true} a token; with server.ids "id": N for text.
  bool jsonl = false;
  std::uint64_t receivers = 1;  // ends when so many have got all
};

struct SendReport {
  TransportCounts counts;
  std::uint64_t delivered = 0, lost = 0, tokens = 0, text_bytes = 0;
  TimeNs latest_ns = 0;  // the most from when something was to be done to when all was sent
};

// Serves until the input has ended, as many receivers have all of it, and no other is under way.
// `listening` is called with the address once there is one. Throws kIo when receivers are lost and
// nobody comes back in `server.patience`; kUsage for an address that is not loopback without a key.
SendReport send_streams(const SendOptions& options, Input input,
                        const std::function<void(const Peer&)>& listening);

struct ReceiveReport {
  TransportCounts counts;
  std::uint64_t received_bytes = 0;  // with those that were there already
};

struct ReceiveOptions {
  ClientOptions client;
  HostPort from;
  std::string append;  // a file to go on in; empty: standard output
  bool ids = false;    // the stream is ids, which are written a line each; else text
};

// Writes what arrives as it arrives, until the stream ends. Throws kIo for a lost sender, kInput
// for a stream that is refused or whose whole is not what the sender says it is, kUsage without a
// key for an address that is not loopback.
ReceiveReport receive_stream(const ReceiveOptions& options);

}  // namespace kv
