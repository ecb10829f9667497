#pragma once
// One stream of tokens through one simulated path: the state machines of sender.hh and receiver.hh,
// two links of link.hh, and a queue of events. Same options and seed, same result.

#include "kv/stream/link.hh"
#include "kv/stream/sender.hh"
#include "kv/stream/stall_meter.hh"
#include "kv/stream/token_source.hh"

namespace kv {

struct SimulationOptions {
  SourceOptions source;
  LinkOptions forward, back;
  std::vector<TimeNs> thresholds = {200 * kMillisecond};
  TimeNs playout = 0;    // a buffer before the reader: tokens are shown this much later, evenly
  TimeNs ack_delay = 0;  // StreamReceiver's
  std::size_t packet_bytes = 1200;
  std::size_t pad_to = 1;
  std::size_t path_bytes = 28;  // a packet's UDP and IPv4 headers
  std::size_t seal_bytes = 16;  // tokstream(5)'s, around a packet
};

struct StreamTotals {
  StallMeter shown;   // as the reader sees it
  StallMeter source;  // as the model made them: what no network can better
  std::uint64_t streams = 0, tokens = 0, text_bytes = 0;
  std::uint64_t packets = 0, wire_bytes = 0;  // of data, all headers counted
  std::uint64_t ack_packets = 0, ack_wire_bytes = 0;
  std::uint64_t lost_packets = 0, queue_drops = 0;  // of data
  std::uint64_t copy_wire_bytes = 0;                // of each token once in a packet of its own
  TimeNs first_token_ns = 0, last_token_ns = 0;     // from a stream's beginning, summed
  std::uint64_t resent_bytes = 0;

  explicit StreamTotals(const std::vector<TimeNs>& thresholds)
      : shown(thresholds), source({thresholds.front()}) {}
  void merge(const StreamTotals& other);
};

// What happened to one stream, for a drawing; filled until `until`.
struct Timeline {
  TimeNs until = 20 * kSecond;
  struct Packet {
    TimeNs sent = 0, arrived = 0;  // kNever: lost
    std::uint64_t first_token = 0, tokens = 0;
    bool resent = false;  // it holds a token that was sent before
  };
  std::vector<Packet> packets;
  std::vector<TimeNs> made, shown;  // a token each
};

// Throws kInput when for an hour of simulated time nothing gets through. That what arrives is what
// was sent, byte for byte, is checked; if it is not, that is a bug here and kIo.
StreamTotals simulate(const SimulationOptions& options, const Scheme& scheme, std::uint64_t seed,
                      Timeline* timeline = nullptr);

}  // namespace kv
