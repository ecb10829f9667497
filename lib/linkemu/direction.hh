#pragma once
// One direction of an emulated link: link.hh's model of a path, with the packets themselves.

#include "kv/base/bytes.hh"
#include "kv/stream/link.hh"

#include <queue>

namespace kv {

class Direction {
 public:
  // `options` must outlive it. The same paths as the simulator's for the same seed.
  Direction(const LinkOptions& options, std::uint64_t path_seed, std::uint64_t direction)
      : link_(options, path_seed, direction) {}

  // A packet comes in; it is held until it arrives, or lost. `now` never goes back.
  void take(TimeNs now, ByteView packet);
  // When the next arrives; kNever when none is under way.
  TimeNs next_at() const { return held_.empty() ? kNever : held_.top().at; }
  // The next that has arrived by now, until the next call; empty when there is none.
  ByteView arrived(TimeNs now);

  struct Counts {
    std::uint64_t packets = 0, bytes = 0;  // that came in
    std::uint64_t lost = 0, dropped = 0;   // by the loss model; by the queue
    TimeNs latest = 0;                     // the most that a packet was delivered after its time
  };
  Counts counts() const;

 private:
  // What is under way without a limited rate has no queue; it takes so much memory at most.
  static constexpr std::uint64_t kMostHeldBytes = 64 << 20;
  struct Held {
    TimeNs at = 0;
    std::uint64_t number = 0;
    Bytes packet;
    bool operator>(const Held& other) const {
      return at != other.at ? at > other.at : number > other.number;
    }
  };
  Link link_;
  std::priority_queue<Held, std::vector<Held>, std::greater<>> held_;
  std::uint64_t held_bytes_ = 0, packets_ = 0, bytes_ = 0, overflow_ = 0;
  TimeNs latest_ = 0;
  Bytes now_there_;
};

}  // namespace kv
