#pragma once
// What a reader of a stream sees: gaps between tokens, and which of them are stalls. Whole numbers
// in memory that does not depend on length, so that merging is exact in any order.

#include "kv/stream/time.hh"

#include <array>
#include <vector>

namespace kv {

// Counts of durations in buckets of 1/128 of an octave: quantiles to 0.8 %.
class DurationCounts {
 public:
  void add(TimeNs duration);
  void merge(const DurationCounts& other);
  std::uint64_t count() const { return count_; }
  // The least duration that is not below `share` of them, rounded up to its bucket's end; 0 of
  // none.
  TimeNs quantile(double share) const;

 private:
  static constexpr int kSubBits = 7;
  std::vector<std::uint64_t> counts_;
  std::uint64_t count_ = 0;
};

// Stalls by length: up to 500 ms, 1 s, 2 s, 5 s and over.
constexpr std::array<TimeNs, 4> kStallSteps = {500 * kMillisecond, kSecond, 2 * kSecond,
                                               5 * kSecond};

// A gap is a stall when it is longer than the threshold: exactly 200 ms is none with a threshold of
// 200 ms. All of a stall's gap counts, not what is over. The stall ratio is the sum of stalls over
// the time from the first token to the last.
class StallMeter {
 public:
  // The first threshold is the one whose stalls are counted by length.
  explicit StallMeter(std::vector<TimeNs> thresholds);
  // A token is shown; `at` never goes back.
  void token(TimeNs at);
  void merge(const StallMeter& other);

  const std::vector<TimeNs>& thresholds() const { return thresholds_; }
  double ratio(std::size_t threshold) const;
  std::uint64_t stalls() const;
  const std::array<std::uint64_t, kStallSteps.size() + 1>& by_length() const { return by_length_; }
  const DurationCounts& gaps() const { return gaps_; }
  std::uint64_t tokens() const { return tokens_; }
  TimeNs shown_ns() const { return shown_; }  // from first to last, of all streams
  TimeNs last() const { return last_; }

 private:
  std::vector<TimeNs> thresholds_, stalled_;
  std::array<std::uint64_t, kStallSteps.size() + 1> by_length_{};
  DurationCounts gaps_;
  std::uint64_t tokens_ = 0;
  TimeNs shown_ = 0, last_ = 0;
};

}  // namespace kv
