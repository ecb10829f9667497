#pragma once
// Loops on as many threads as LibTorch has been given. Its own OpenMP threads are as good for long
// ones, but they are asleep when a short one comes, and waking them costs more than it saves: the
// helpers here stay awake for a moment. A loop within a loop stays on its thread.

#include <cstdint>
#include <functional>

namespace kv {

// body(i) for each i in [0, count), on whichever thread is free. Rethrows the first exception.
void parallel_items(std::int64_t count, const std::function<void(std::int64_t)>& body);

// body(begin, end) over parts of [0, count) of `grain` or fewer.
void parallel_ranges(std::int64_t count, std::int64_t grain,
                     const std::function<void(std::int64_t, std::int64_t)>& body);

// From now on the calling thread does the loops above by itself: for threads beside the pool.
void work_alone();

// Makes LibTorch's threads that wait for each other sleep after some microseconds rather than spin
// for milliseconds, unless OMP_WAIT_POLICY or GOMP_SPINCOUNT say what to do. Two threads that spin
// on two cores which others use too come almost to a standstill.
void share_cores();

}  // namespace kv
