#include "kv/stream/link.hh"

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

constexpr std::uint64_t kDelays = 32;  // purpose of the generator

}  // namespace

Capacity::Capacity(const CapacityTrace& trace, std::uint64_t queue_bytes)
    : trace_(&trace),
      queue_bytes_(queue_bytes),
      round_bytes_(trace.round_bytes()),
      left_(trace.steps[0].bytes) {}

TimeNs Capacity::step_end() const {
  return step_ + 1 < trace_->steps.size() ? step_at(step_ + 1)
                                          : round_ + trace_->length + trace_->steps[0].at;
}

void Capacity::next_step() {
  if (++step_ == trace_->steps.size()) {
    step_ = 0;
    round_ += trace_->length;
  }
  left_ = trace_->steps[step_].bytes;
}

// An opportunity is gone when its time is, used or not.
TimeNs Capacity::leave_by_opportunity(TimeNs now, std::uint64_t size) {
  while (step_at(step_) < now) next_step();
  while (size > left_) {
    size -= left_;
    next_step();
  }
  left_ -= size;
  return step_at(step_);
}

TimeNs Capacity::leave_by_rate(TimeNs now, std::uint64_t size) {
  TimeNs at = std::max(now, busy_);
  auto bytes = static_cast<double>(size);
  while (step_end() <= at) next_step();
  if (bytes > round_bytes_) {  // whole rounds at once: there may be millions of them
    const double rounds = std::floor(bytes / round_bytes_);
    bytes -= rounds * round_bytes_;
    const TimeNs skipped = static_cast<TimeNs>(rounds) * trace_->length;
    round_ += skipped;
    at += skipped;
  }
  while (true) {
    while (step_end() <= at) next_step();
    const auto rate = static_cast<double>(trace_->steps[step_].bytes_per_s);
    const double room = rate * static_cast<double>(step_end() - at) / 1e9;
    if (rate > 0 && room >= bytes) return busy_ = at + static_cast<TimeNs>(bytes / rate * 1e9);
    bytes -= room;
    at = step_end();
  }
}

std::optional<TimeNs> Capacity::send(TimeNs now, std::size_t size_bytes) {
  while (!waiting_.empty() && waiting_.front().until <= now) {
    queued_ -= waiting_.front().size_bytes;
    waiting_.pop(1);
  }
  if (queued_ + size_bytes > queue_bytes_) return std::nullopt;
  const TimeNs leaves =
      trace_->rates ? leave_by_rate(now, size_bytes) : leave_by_opportunity(now, size_bytes);
  if (leaves > now) {
    waiting_.push({leaves, size_bytes});
    queued_ += size_bytes;
  }
  return leaves;
}

Link::Link(const LinkOptions& options, std::uint64_t path_seed, std::uint64_t direction)
    : options_(&options),
      loss_(options.loss, path_seed, direction),
      random_(path_seed, kDelays + direction) {
  if (options.capacity) capacity_.emplace(*options.capacity, options.queue_bytes);
}

std::optional<TimeNs> Link::send(TimeNs now, std::size_t size_bytes) {
  if (loss_.lost(now)) {
    ++lost_;
    return std::nullopt;
  }
  TimeNs leaves = now;
  if (capacity_) {
    const std::optional<TimeNs> at = capacity_->send(now, size_bytes);
    if (!at) {
      ++dropped_;
      return std::nullopt;
    }
    leaves = *at;
  }
  TimeNs delay = options_->delay, jitter = options_->jitter;
  if (const NetworkWindow* window = loss_.window(now)) {
    delay = window->one_way;
    jitter = window->jitter;
  }
  TimeNs arrival = leaves + delay;
  if (jitter > 0) arrival += random_.exponential(jitter);
  if (options_->reorder > 0 && random_.chance(options_->reorder)) {
    return arrival + options_->reorder_delay;  // others do not wait for it
  }
  return last_arrival_ = std::max(arrival, last_arrival_);
}

}  // namespace kv
