#include "kv/stream/stall_meter.hh"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace kv {

void DurationCounts::add(TimeNs duration) {
  // Microseconds are fine enough, and the first 128 have a bucket each.
  const auto value = static_cast<std::uint64_t>(std::max<TimeNs>(duration, 0) / kMicrosecond);
  const int shift = std::max(static_cast<int>(std::bit_width(value)) - kSubBits - 1, 0);
  const std::size_t bucket = (static_cast<std::size_t>(shift) << kSubBits) + (value >> shift);
  if (bucket >= counts_.size()) counts_.resize(bucket + 1);
  ++counts_[bucket];
  ++count_;
}

void DurationCounts::merge(const DurationCounts& other) {
  if (counts_.size() < other.counts_.size()) counts_.resize(other.counts_.size());
  for (std::size_t i = 0; i < other.counts_.size(); ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
}

TimeNs DurationCounts::quantile(double share) const {
  if (count_ == 0) return 0;
  const auto wanted = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(count_)));
  std::uint64_t below = 0;
  for (std::size_t bucket = 0; bucket < counts_.size(); ++bucket) {
    below += counts_[bucket];
    if (below < std::max<std::uint64_t>(wanted, 1)) continue;
    // The inverse of add(): values above have a leading one that counts as a bucket of its own.
    const std::size_t octave = bucket >> kSubBits;
    const std::size_t shift = octave > 0 ? octave - 1 : 0;
    const std::uint64_t first = (bucket - (shift << kSubBits)) << shift;
    return static_cast<TimeNs>(first + (std::uint64_t{1} << shift) - 1) * kMicrosecond;
  }
  return 0;
}

StallMeter::StallMeter(std::vector<TimeNs> thresholds)
    : thresholds_(std::move(thresholds)), stalled_(thresholds_.size()) {}

void StallMeter::token(TimeNs at) {
  if (tokens_++ > 0) {
    const TimeNs gap = at - last_;
    gaps_.add(gap);
    shown_ += gap;
    for (std::size_t i = 0; i < thresholds_.size(); ++i) {
      if (gap > thresholds_[i]) stalled_[i] += gap;
    }
    if (gap > thresholds_[0]) {
      const auto step = std::lower_bound(kStallSteps.begin(), kStallSteps.end(), gap);
      ++by_length_[static_cast<std::size_t>(step - kStallSteps.begin())];
    }
  }
  last_ = at;
}

void StallMeter::merge(const StallMeter& other) {
  for (std::size_t i = 0; i < stalled_.size(); ++i) stalled_[i] += other.stalled_[i];
  for (std::size_t i = 0; i < by_length_.size(); ++i) by_length_[i] += other.by_length_[i];
  gaps_.merge(other.gaps_);
  tokens_ += other.tokens_;
  shown_ += other.shown_;
  last_ = std::max(last_, other.last_);
}

double StallMeter::ratio(std::size_t threshold) const {
  return shown_ > 0 ? static_cast<double>(stalled_[threshold]) / static_cast<double>(shown_) : 0;
}

std::uint64_t StallMeter::stalls() const {
  return std::accumulate(by_length_.begin(), by_length_.end(), std::uint64_t{0});
}

}  // namespace kv
