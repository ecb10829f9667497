#pragma once
// Times of the state machines and of the simulator: whole nanoseconds since any origin, so that no
// comparison depends on rounding. Nothing in this folder reads a clock.

#include <cstdint>
#include <limits>

namespace kv {

using TimeNs = std::int64_t;

constexpr TimeNs kNever = std::numeric_limits<TimeNs>::max();
constexpr TimeNs kMicrosecond = 1'000;
constexpr TimeNs kMillisecond = 1'000'000;
constexpr TimeNs kSecond = 1'000'000'000;

}  // namespace kv
