#include "kv/stream/rtt.hh"

#include <algorithm>

namespace kv {
namespace {

constexpr TimeNs kInitialTimeout = kSecond;
constexpr TimeNs kLongestTimeout = 60 * kSecond;

}  // namespace

void RttEstimate::add(TimeNs sample) {
  if (sample <= 0) return;
  latest_ = sample;
  if (!known()) {
    smoothed_ = least_ = sample;
    variation_ = sample / 2;
    return;
  }
  least_ = std::min(least_, sample);
  // In this order: RTTVAR is from the SRTT before the sample.
  const TimeNs error = std::max(smoothed_ - sample, sample - smoothed_);
  variation_ += (error - variation_) / 4;
  smoothed_ += (sample - smoothed_) / 8;
}

TimeNs RttEstimate::timeout(TimeNs floor, int backoff) const {
  TimeNs timeout = known() ? smoothed_ + std::max(floor, 4 * variation_) : kInitialTimeout;
  for (int i = 0; i < backoff && timeout < kLongestTimeout; ++i) timeout *= 2;
  return std::min(timeout, kLongestTimeout);
}

}  // namespace kv
