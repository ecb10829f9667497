#pragma once
// The receiver of a stream of tokens, as a state machine: packets go in, bytes in their order and
// acknowledgements come out. No socket, no clock; a value that can be compared, saved and restored.
//
// Each packet is answered at once, or after ack_delay if it brought only what was due next. Answers
// are cumulative, so a lost one costs nothing; ranges beyond tell schemes with holes what arrived.

#include "kv/stream/fec.hh"
#include "kv/stream/packet.hh"
#include "kv/stream/time.hh"

#include <map>

namespace kv {

class StreamReceiver {
 public:
  // `offset`: how many bytes are here already (resumption).
  explicit StreamReceiver(std::uint64_t offset = 0, TimeNs ack_delay = 0)
      : received_(offset), ack_delay_(ack_delay), unit_end_(offset) {}

  enum class Verdict : std::uint8_t {
    kTaken,
    kKnown,         // nothing new in it; answered all the same
    kTooFar,        // more than kWindowBytes beyond what was delivered; dropped
    kContradiction  // other bytes or another end than before; dropped
  };
  Verdict receive(TimeNs now, const DataPacket& packet);
  // What became deliverable by the last receive(), until the next.
  ByteView fresh() const { return fresh_; }
  // Fills `ack` if an answer is due now.
  bool next_ack(TimeNs now, AckPacket& ack);
  TimeNs wake_at() const { return answer_at_; }

  std::uint64_t received() const { return received_; }  // bytes delivered, before `offset` too
  // All was delivered.
  bool whole() const { return end_ && received_ == *end_; }
  // XXH3-64 of the stream as the sender says, known with its end. The caller compares it: the bytes
  // before `offset` are the caller's alone.
  std::uint64_t digest() const { return digest_; }

  Bytes save() const;
  // Throws kInput when these are not the bytes of save().
  static StreamReceiver restore(ByteView saved);
  bool operator==(const StreamReceiver& other) const { return save() == other.save(); }

 private:
  static constexpr std::uint64_t kWindowBytes = 1 << 20;
  template <typename Self, typename F>
  static void fields(Self& self, F& f);
  bool note_end(const DataPacket& packet);
  Verdict take(std::uint64_t offset, ByteView bytes);
  void take_units();

  std::uint64_t received_ = 0;
  TimeNs ack_delay_ = 0;
  std::map<std::uint64_t, Bytes>
      beyond_;  // by offset: disjoint pieces that wait for what is missing
  std::optional<std::uint64_t> end_;
  std::uint64_t digest_ = 0;
  Bytes fresh_;

  FecDecoder units_;
  // Of those that are coded: the first that is not delivered, and where it begins.
  std::uint64_t next_unit_ = 0, unit_end_ = 0;

  std::uint64_t next_number_ = 0, echo_ = 0, newest_ = 0;
  TimeNs answer_at_ = kNever, arrived_ = 0;
};

}  // namespace kv
