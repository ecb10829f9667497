#pragma once
// The sender of a stream of tokens to one receiver, as a state machine: tokens, acknowledgements
// and times go in, packets come out. It has no socket and no clock and does the same for the same
// events, so the simulator and tokstream-send run this code. A value: it can be compared, saved and
// restored.
//
// After each event the driver takes packets until there is none, and comes back at wake_at():
//   sender.push(token);
//   while (sender.next_packet(now, packet)) transmit(packet);
//   set_timer(sender.wake_at());
//
// Bounds, whatever the scheme. A packet's size is at most packet_bytes; what does not fit goes
// oldest first into the next one. Packets are paced to rate_bytes_per_s behind a burst of ten. What
// Chatterbox sends once more costs credit, which new bytes earn (Scheme::redundancy) and time does
// not: a path that takes nothing gets one packet a timeout in the end, with backoff, which needs no
// credit (RFC 8085, section 3.1). Copies and generations are as many as the scheme says; what was
// lost is sent again once a round trip at most.

#include "kv/stream/fifo.hh"
#include "kv/stream/packet.hh"
#include "kv/stream/rtt.hh"
#include "kv/stream/scheme.hh"

namespace kv {

struct SenderOptions {
  Scheme scheme;
  std::size_t packet_bytes = 1200;  // of UDP's payload: RFC 9000, section 14
  std::size_t envelope_bytes = 24;  // of it, around encode_data's part: header and seal
  std::size_t path_bytes = 28;      // below it: UDP and IPv4; only counted, for the credit
  std::size_t pad_to = 1;           // encode_data's
  std::uint64_t rate_bytes_per_s = 1 << 20;
};

class StreamSender {
 public:
  // `offset`: where the receiver is already (resumption).
  explicit StreamSender(const SenderOptions& options, std::uint64_t offset = 0);

  // A token's bytes; cut in pieces only where it is larger than a packet.
  void push(ByteView token);
  // No more tokens. `digest` is XXH3-64 of the whole stream.
  void finish(std::uint64_t digest);
  // Acknowledgements may be lost, late, doubled and out of order. False for one of what was never
  // sent, which changes nothing.
  bool receive(TimeNs now, const AckPacket& ack);
  // Fills `packet` if one is to be sent now.
  bool next_packet(TimeNs now, DataPacket& packet);
  // A packet without bytes, which only says that the sender is there, whenever the driver likes.
  void keep_alive(TimeNs now, DataPacket& packet);
  // When next_packet is to be asked again even if nothing happens; kNever when not at all.
  TimeNs wake_at() const;

  // All was acknowledged, the end too.
  bool done() const { return acknowledged_whole_; }
  std::uint64_t acknowledged() const { return begin_; }  // offset before which all arrived
  std::uint64_t end() const { return begin_ + bytes_.size(); }
  const RttEstimate& rtt() const { return rtt_; }
  TimeNs last_sent() const { return last_sent_; }               // 0 before the first packet
  std::uint64_t next_number() const { return next_number_; }    // of the next packet
  std::uint64_t resent_bytes() const { return resent_bytes_; }  // of the stream, sent once more

  Bytes save() const;
  // Throws kInput when these are not the bytes of save(). The options are the caller's.
  static StreamSender restore(const SenderOptions& options, ByteView saved);
  bool operator==(const StreamSender& other) const;

 private:
  struct Unit {  // what one push gave, or a piece of it
    std::uint64_t end = 0;
    TimeNs first_sent = kNever, last_sent = kNever;
    bool arrived = false, lost = false;
    bool operator==(const Unit&) const = default;
    template <typename Self, typename F>
    static void fields(Self& self, F& f) {
      f(self.end, self.first_sent, self.last_sent, self.arrived, self.lost);
    }
  };
  template <typename Self, typename F>
  static void fields(Self& self, F& f);

  std::uint64_t begin_of(std::size_t unit) const { return unit ? units_[unit - 1].end : begin_; }
  bool fresh() const {
    return sent_units_ < first_unit_ + units_.size() || (digest_ && (!fin_sent_ || fin_lost_));
  }
  bool outstanding() const { return sent_units_ > first_unit_ || (fin_sent_ && !done()); }
  std::size_t room() const;
  std::size_t fit(std::size_t first, std::size_t last) const;

  // sender.cc: what goes into a packet.
  bool select(TimeNs now, std::size_t& first, std::size_t& last);
  std::uint64_t missing_bytes() const;
  bool select_unacked(TimeNs now, std::size_t& first, std::size_t& last);
  bool select_mosh(TimeNs now, std::size_t& first, std::size_t& last);
  bool select_once(std::size_t& first, std::size_t& last);
  bool select_lost(std::size_t& first, std::size_t& last);
  void fill(TimeNs now, std::size_t first, std::size_t last, DataPacket& packet);
  void add_repairs(std::size_t unit, DataPacket& packet);
  void spend(TimeNs now, std::size_t fresh_bytes, std::size_t old_bytes);
  TimeNs paced_at() const;
  TimeNs late_after() const;
  TimeNs mosh_interval() const;
  TimeNs mosh_patience() const;

  // recovery.cc: what acknowledgements and times say about it.
  void advance(TimeNs now, const AckPacket& ack);
  void mark_lost_by_count();
  void mark_lost_by_time(TimeNs now);
  void on_loss();
  void expire(TimeNs now);
  TimeNs reordering_deadline() const;
  TimeNs probe_deadline() const;
  TimeNs timeout_deadline() const;
  TimeNs oldest_sent() const;
  TimeNs early_deadline() const;
  TimeNs resend_deadline() const;
  std::size_t in_flight() const;

  SenderOptions options_;
  // The unacknowledged bytes and their units, those that were sent first.
  std::uint64_t begin_ = 0, first_unit_ = 0;
  Fifo<std::byte> bytes_;
  Fifo<Unit> units_;
  std::uint64_t sent_units_ = 0;
  std::optional<std::uint64_t> digest_;
  bool fin_sent_ = false, fin_lost_ = false, acknowledged_whole_ = false;

  std::uint64_t next_number_ = 1;
  Fifo<TimeNs> sent_times_;  // of the last packets, to measure round trips
  RttEstimate rtt_;
  TimeNs last_sent_ = 0;
  TimeNs timer_ = kNever;  // when the retransmission timer was started, RFC 6298, section 5
  bool blocked_ = false;   // by the pacer

  std::uint64_t cursor_ = 0;  // Chatterbox: the unit with which the next packet goes on
  bool cycling_ = false;
  bool resend_ = false;  // a timer asks for a packet, with or without anything new
  bool holes_ = false;   // something arrived behind what is missing
  TimeNs resend_pause_ = 20 * kMillisecond;  // until the next resend ahead of a timeout
  int copies_left_ = 0;
  std::uint64_t copy_first_ = 0, copy_last_ = 0;  // duplicate: the units of the last packet

  TimeNs rack_sent_ = 0;  // the latest sent of what is known to have arrived
  TimeNs rack_rtt_ = 0;   // RFC 8985's RACK.rtt
  int backoff_ = 0;
  bool probed_ = false;                   // a tail probe went out since the last progress
  std::uint64_t recover_ = 0;             // units below it belong to the loss already answered
  double window_ = 10, threshold_ = 1e9;  // packets: RFC 5681

  TimeNs pace_ = 0;  // when the pacer's bucket will be full again
  double credit_bytes_ = 1200;
  std::uint64_t resent_bytes_ = 0;
};

}  // namespace kv
