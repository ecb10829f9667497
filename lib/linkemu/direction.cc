#include "kv/linkemu/direction.hh"

#include <algorithm>

namespace kv {

void Direction::take(TimeNs now, ByteView packet) {
  ++packets_;
  bytes_ += packet.size();
  const std::optional<TimeNs> at = link_.send(now, packet.size());
  if (!at) return;
  if (packet.size() > kMostHeldBytes - held_bytes_) {
    ++overflow_;
    return;
  }
  held_bytes_ += packet.size();
  held_.push({*at, packets_, Bytes(packet.begin(), packet.end())});
}

ByteView Direction::arrived(TimeNs now) {
  if (next_at() > now) return {};
  latest_ = std::max(latest_, now - held_.top().at);
  // Moved out of the queue's top, which is const because its order must not change; it is popped.
  now_there_ = std::move(const_cast<Held&>(held_.top()).packet);
  held_.pop();
  held_bytes_ -= now_there_.size();
  return now_there_;
}

Direction::Counts Direction::counts() const {
  return {packets_, bytes_, link_.lost(), link_.dropped() + overflow_, latest_};
}

}  // namespace kv
