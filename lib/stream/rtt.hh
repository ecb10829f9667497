#pragma once
// The estimate of a path's round-trip time, RFC 6298, and the retransmission timeout from it.

#include "kv/stream/time.hh"

namespace kv {

class RttEstimate {
 public:
  // One measured round trip; samples that are not positive are left out.
  void add(TimeNs sample);

  bool known() const { return smoothed_ > 0; }
  TimeNs smoothed() const { return smoothed_; }    // SRTT; 0 before the first sample
  TimeNs variation() const { return variation_; }  // RTTVAR
  TimeNs latest() const { return latest_; }
  TimeNs least() const { return least_; }

  // SRTT + 4 RTTVAR, doubled `backoff` times, 60 s at most; 1 s before the first sample. `floor` is
  // what 4 RTTVAR is at least: Linux puts its 200 ms there, not under the sum.
  TimeNs timeout(TimeNs floor, int backoff) const;

  bool operator==(const RttEstimate&) const = default;
  template <typename Self, typename F>
  static void fields(Self& self, F& f) {
    f(self.smoothed_, self.variation_, self.latest_, self.least_);
  }

 private:
  TimeNs smoothed_ = 0, variation_ = 0, latest_ = 0, least_ = 0;
};

}  // namespace kv
