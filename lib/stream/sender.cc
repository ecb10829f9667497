// What goes into a packet. What acknowledgements and timers say is in recovery.cc.
#include "kv/stream/sender.hh"

#include "kv/stream/fec.hh"

#include <algorithm>

namespace kv {
namespace {

constexpr std::size_t kFieldBytes = 1 + 9 + 8 + 2;  // encode_data's, at most, without units
constexpr std::size_t kSentTimes = 256;             // packets whose round trip can be measured
constexpr std::size_t kBurstPackets = 10;           // RFC 6928
constexpr std::size_t kRepairUnits = 64;
constexpr std::size_t kMoshBytes = 1000, kMoshMore = 100;

}  // namespace

StreamSender::StreamSender(const SenderOptions& options, std::uint64_t offset)
    : options_(options), begin_(offset) {
  if (options.packet_bytes < 256 || options.packet_bytes > 65000 || options.envelope_bytes > 100 ||
      options.pad_to < 1 || options.pad_to > 128 || options.rate_bytes_per_s == 0) {
    fail_usage("packets of {} bytes, padded to {}: give 256 to 65000, and 1 to 128",
               options.packet_bytes, options.pad_to);
  }
}

std::size_t StreamSender::room() const {
  const std::size_t room = options_.packet_bytes - options_.envelope_bytes - kFieldBytes;
  return room - room % options_.pad_to;
}

void StreamSender::push(ByteView token) {
  if (digest_) fail_usage("a token behind the end of its stream");
  const std::size_t most = options_.scheme.carry == Carry::kCoded ? kMaxUnitBytes - 127 : room();
  bytes_.append(token);
  while (!token.empty()) {
    const std::size_t size = std::min(token.size(), most);
    units_.push({(units_.empty() ? begin_ : units_.back().end) + size});
    token = token.subspan(size);
  }
}

void StreamSender::finish(std::uint64_t digest) { digest_ = digest; }

// The units from `first` to `last` that one packet holds.
std::size_t StreamSender::fit(std::size_t first, std::size_t last) const {
  const std::uint64_t limit = begin_of(first) + room();
  if (last == first || units_[last - 1].end <= limit) return last;
  const auto begin = units_.begin() + static_cast<std::ptrdiff_t>(first);
  const auto end = units_.begin() + static_cast<std::ptrdiff_t>(last);
  const auto over = std::upper_bound(
      begin, end, limit, [](std::uint64_t most, const Unit& unit) { return most < unit.end; });
  return static_cast<std::size_t>(over - units_.begin());
}

bool StreamSender::next_packet(TimeNs now, DataPacket& packet) {
  expire(now);
  blocked_ = false;
  if (done()) return false;
  const bool wanted = fresh() || cycling_ || resend_ || copies_left_ > 0 ||
                      options_.scheme.recovery == Recovery::kDupAck ||
                      options_.scheme.recovery == Recovery::kRack;
  if (!wanted) return false;
  if (paced_at() > now) {
    blocked_ = true;
    return false;
  }
  std::size_t first = 0, last = 0;
  if (!select(now, first, last)) return false;
  fill(now, first, last, packet);
  return true;
}

bool StreamSender::select(TimeNs now, std::size_t& first, std::size_t& last) {
  switch (options_.scheme.carry) {
    case Carry::kUnacked:
      return select_unacked(now, first, last);
    case Carry::kMosh:
      return select_mosh(now, first, last);
    case Carry::kNew:
    case Carry::kRecent:
    case Carry::kCoded:
      return select_once(first, last);
  }
  return false;
}

// Of what was sent, bytes that are not known to have arrived.
std::uint64_t StreamSender::missing_bytes() const {
  std::uint64_t bytes = begin_of(sent_units_ - first_unit_) - begin_;
  for (std::size_t i = 0; holes_ && i < sent_units_ - first_unit_; ++i) {
    if (units_[i].arrived) bytes -= units_[i].end - begin_of(i);
  }
  return bytes;
}

// All units from the oldest on, in as many packets as that takes.
bool StreamSender::select_unacked(TimeNs now, std::size_t& first, std::size_t& last) {
  const bool timeout = resend_;
  if (!cycling_) {
    if (!fresh() && !resend_) return false;
    cycling_ = true;
    cursor_ = first_unit_;
    const auto old_bytes = static_cast<double>(missing_bytes());
    const bool late = !units_.empty() && units_.front().first_sent != kNever &&
                      now - units_.front().first_sent > late_after();
    // Without the credit only what is known to be late goes with the new, and no more than a
    // packet.
    if (!timeout && credit_bytes_ < old_bytes &&
        (!late || credit_bytes_ < -static_cast<double>(options_.packet_bytes))) {
      cursor_ = sent_units_;
    }
  }
  resend_ = false;
  cursor_ = std::max(cursor_, first_unit_);
  first = cursor_ - first_unit_;
  // Only after an outage of more than a packet do pieces arrive behind a hole.
  while (first < units_.size() && units_[first].arrived) ++first;
  last = first;
  while (last < units_.size() && !units_[last].arrived) ++last;
  last = fit(first, last);
  cursor_ = first_unit_ + last;
  // A timer asks for one packet, which holds the oldest.
  cycling_ = last < units_.size() && !timeout;
  return first < last || (digest_ && last == units_.size());
}

bool StreamSender::select_mosh(TimeNs now, std::size_t& first, std::size_t& last) {
  if (!resend_ && (!fresh() || now < last_sent_ + mosh_interval())) return false;
  resend_ = false;
  const TimeNs patience = mosh_patience();
  while (first < units_.size() && units_[first].last_sent != kNever &&
         now - units_[first].last_sent < patience) {
    ++first;
  }
  const std::uint64_t all = bytes_.size(), assumed = end() - begin_of(first);
  if (all <= assumed || (all < kMoshBytes && all - assumed < kMoshMore)) first = 0;
  last = fit(first, units_.size());
  return first < last || (digest_ && last == units_.size());
}

// Each unit once, what was lost again.
bool StreamSender::select_once(std::size_t& first, std::size_t& last) {
  const Scheme& scheme = options_.scheme;
  if (copies_left_ > 0) {
    --copies_left_;
    if (copy_first_ >= first_unit_) {
      first = copy_first_ - first_unit_;
      last = copy_last_ - first_unit_;
      return true;
    }
    copies_left_ = 0;
  }
  const bool open = !scheme.congestion_window || static_cast<double>(in_flight()) < window_;
  const std::size_t sent = sent_units_ - first_unit_;
  if (open && select_lost(first, last)) return true;
  if (resend_) {  // a probe: the last that was sent, and the end if that was sent
    resend_ = false;
    first = sent > 0 ? sent - 1 : 0;
    last = sent;
    return first < last || digest_;
  }
  if (!fresh() || !open) return false;
  first = sent;
  if (scheme.carry == Carry::kRecent) {
    const std::size_t oldest = sent - std::min<std::size_t>(sent, scheme.depth);
    const std::size_t next = std::min(sent + 1, units_.size());
    while (first > oldest && fit(first - 1, next) == next) --first;
  }
  last = fit(first,
             scheme.carry == Carry::kCoded ? std::min(first + 1, units_.size()) : units_.size());
  copies_left_ = scheme.copies - 1;
  copy_first_ = first_unit_ + first;
  copy_last_ = first_unit_ + last;
  return true;
}

// The first unit known to be lost, and those behind it that are too.
bool StreamSender::select_lost(std::size_t& first, std::size_t& last) {
  const std::size_t sent = sent_units_ - first_unit_;
  first = 0;
  while (first < sent && !units_[first].lost) ++first;
  if (first == sent) return false;
  last = first + 1;
  while (last < sent && units_[last].lost && options_.scheme.carry != Carry::kCoded) ++last;
  last = fit(first, last);
  return true;
}

void StreamSender::fill(TimeNs now, std::size_t first, std::size_t last, DataPacket& packet) {
  packet.number = next_number_++;
  packet.offset = begin_of(first);
  const std::size_t size = last > first ? units_[last - 1].end - packet.offset : 0;
  const auto bytes = bytes_.view().subspan(packet.offset - begin_, size);
  packet.bytes.assign(bytes.begin(), bytes.end());
  packet.unit.reset();
  packet.repairs.clear();
  packet.fin.reset();
  if (digest_ && last == units_.size()) {
    packet.fin = digest_;
    fin_sent_ = true;
    fin_lost_ = false;
  }
  std::size_t fresh_bytes = 0;
  for (std::size_t i = first; i < last; ++i) {
    Unit& unit = units_[i];
    if (unit.first_sent == kNever) {
      unit.first_sent = now;
      fresh_bytes += unit.end - begin_of(i);
    }
    unit.last_sent = now;
    unit.lost = false;
  }
  sent_units_ = std::max(sent_units_, first_unit_ + last);
  resent_bytes_ += size - fresh_bytes;
  if (options_.scheme.carry == Carry::kCoded && last > first) add_repairs(first, packet);
  spend(now, fresh_bytes, size - fresh_bytes);
  sent_times_.push(now);
  if (sent_times_.size() > kSentTimes) sent_times_.pop(1);
  last_sent_ = now;
  if (timer_ == kNever) timer_ = now;
}

void StreamSender::keep_alive(TimeNs now, DataPacket& packet) {
  packet = {};
  packet.number = next_number_++;
  packet.offset = begin_of(sent_units_ - first_unit_);
  sent_times_.push(now);
  if (sent_times_.size() > kSentTimes) sent_times_.pop(1);
  last_sent_ = now;
}

// Combinations of the unacknowledged units before this one, the newest kRepairUnits.
void StreamSender::add_repairs(std::size_t unit, DataPacket& packet) {
  packet.unit = first_unit_ + unit;
  const std::size_t from = unit - std::min(unit, kRepairUnits);
  if (from == unit) return;
  std::vector<ByteView> units;
  for (std::size_t i = from; i < unit; ++i) {
    units.push_back(bytes_.view().subspan(begin_of(i) - begin_, units_[i].end - begin_of(i)));
  }
  for (int i = 0; i < options_.scheme.depth; ++i) {
    const auto key = static_cast<std::uint32_t>(
        (packet.number * static_cast<std::uint64_t>(options_.scheme.depth) + i) & 0xFFFF);
    packet.repairs.push_back(make_repair(first_unit_ + from, units, key));
  }
}

void StreamSender::spend(TimeNs now, std::size_t fresh_bytes, std::size_t old_bytes) {
  const std::size_t around = options_.envelope_bytes + options_.path_bytes;
  if (fresh_bytes > 0) {
    const auto once = static_cast<double>(fresh_bytes + around);
    credit_bytes_ = std::min(credit_bytes_ + options_.scheme.redundancy * once,
                             static_cast<double>(options_.packet_bytes));
    credit_bytes_ -= static_cast<double>(old_bytes);
  } else {
    credit_bytes_ -= static_cast<double>(old_bytes + around);
  }
  const auto size = static_cast<TimeNs>(fresh_bytes + old_bytes + around);
  pace_ = std::max(pace_, now) + size * kSecond / static_cast<TimeNs>(options_.rate_bytes_per_s);
}

TimeNs StreamSender::paced_at() const {
  const auto burst = static_cast<TimeNs>(kBurstPackets * options_.packet_bytes);
  return pace_ - burst * kSecond / static_cast<TimeNs>(options_.rate_bytes_per_s);
}

// Mosh's frame interval, half a round trip, and how long a state is assumed to have arrived.
TimeNs StreamSender::mosh_interval() const {
  return std::clamp(rtt_.smoothed() / 2, 20 * kMillisecond, 250 * kMillisecond);
}
TimeNs StreamSender::mosh_patience() const {
  return std::clamp(rtt_.timeout(0, 0), options_.scheme.least_timeout, kSecond) +
         100 * kMillisecond;
}

}  // namespace kv
