#pragma once
// One direction of a path: loss, then a queue before a link of limited rate, then delay; times and
// sizes in, arrival times out.

#include "kv/stream/fifo.hh"
#include "kv/stream/loss.hh"

#include <optional>

namespace kv {

struct LinkOptions {
  LossSpec loss;
  TimeNs delay = 50 * kMillisecond;  // one way; a loss trace brings its own
  TimeNs jitter = 0;                 // exponential with this mean on top; packets stay in order
  double reorder = 0;                // share of packets that later ones may overtake, because
  TimeNs reorder_delay = 20 * kMillisecond;       // they take this much longer
  std::shared_ptr<const CapacityTrace> capacity;  // null: no limit
  std::uint64_t queue_bytes = 150'000;            // before it; what does not fit is dropped
};

// The waiting before a link of limited rate. `trace` must outlive it.
class Capacity {
 public:
  explicit Capacity(const CapacityTrace& trace, std::uint64_t queue_bytes);
  // When the last byte of a packet leaves that comes now; nothing when the queue has no room for
  // it. `now` never goes back.
  std::optional<TimeNs> send(TimeNs now, std::size_t size_bytes);

 private:
  struct Waiting {
    TimeNs until = 0;
    std::size_t size_bytes = 0;
  };
  TimeNs step_at(std::size_t step) const { return round_ + trace_->steps[step].at; }
  TimeNs step_end() const;
  void next_step();
  TimeNs leave_by_opportunity(TimeNs now, std::uint64_t size);
  TimeNs leave_by_rate(TimeNs now, std::uint64_t size);

  const CapacityTrace* trace_;
  std::uint64_t queue_bytes_;
  double round_bytes_;
  std::uint64_t queued_ = 0, left_ = 0;  // left_: of this opportunity
  Fifo<Waiting> waiting_;
  TimeNs round_ = 0, busy_ = 0;  // when the trace began last; when the link is free
  std::size_t step_ = 0;
};

class Link {
 public:
  // `options` must outlive it. The two directions of a path have one seed and different directions.
  Link(const LinkOptions& options, std::uint64_t path_seed, std::uint64_t direction);
  // When a packet arrives that is sent now, nothing when it is lost. `now` never goes back.
  std::optional<TimeNs> send(TimeNs now, std::size_t size_bytes);

  std::uint64_t lost() const { return lost_; }
  std::uint64_t dropped() const { return dropped_; }  // by the queue

 private:
  const LinkOptions* options_;
  Loss loss_;
  Random random_;
  std::optional<Capacity> capacity_;
  TimeNs last_arrival_ = 0;
  std::uint64_t lost_ = 0, dropped_ = 0;
};

}  // namespace kv
