// What acknowledgements and timers tell a sender: how far the receiver is, what was lost, and when
// to send without anything new.
#include "kv/stream/sender.hh"
#include "kv/stream/state_io.hh"

#include <algorithm>

namespace kv {
namespace {

constexpr std::size_t kDuplicates = 3;             // RFC 5681, section 3.2
constexpr TimeNs kFirstPause = 20 * kMillisecond;  // between resends
constexpr TimeNs kPauseGrowth = 8;                 // each pause is an eighth longer
constexpr TimeNs kLeastProbe = 10 * kMillisecond;
constexpr double kMostPackets = 1000;

}  // namespace

bool StreamSender::receive(TimeNs now, const AckPacket& ack) {
  const std::uint64_t sent_end = begin_of(sent_units_ - first_unit_);
  if (ack.received > sent_end || ack.echo >= next_number_ || (ack.whole && !fin_sent_)) {
    return false;
  }
  for (const ByteRange& range : ack.ranges) {
    if (range.end > sent_end) return false;
  }
  // Karn's problem does not arise: the answer says which packet it answers.
  const std::uint64_t first_number = next_number_ - sent_times_.size();
  if (ack.echo >= first_number) {
    TimeNs& sent = sent_times_[ack.echo - first_number];
    if (sent != kNever) {
      // TCP's acknowledgements do not say how long they waited.
      const TimeNs waited = options_.scheme.congestion_window ? 0 : ack.delay_us * kMicrosecond;
      rtt_.add(now - sent - waited);
      rack_rtt_ = rtt_.latest();
      rack_sent_ = std::max(rack_sent_, sent);
      sent = kNever;
    }
  }
  advance(now, ack);
  if (options_.scheme.recovery == Recovery::kDupAck) mark_lost_by_count();
  if (options_.scheme.recovery == Recovery::kRack) mark_lost_by_time(now);
  return true;
}

void StreamSender::advance(TimeNs now, const AckPacket& ack) {
  const std::size_t before = in_flight();
  std::size_t arrived = 0, news = 0;
  while (arrived < units_.size() && units_[arrived].end <= ack.received) {
    news += units_[arrived].arrived ? 0 : 1;
    ++arrived;
  }
  if (arrived > 0) {
    // Linux looks at what was acknowledged in order last, and takes its round trip, which may be
    // long past, for the newest: where answers are lost too, it waits for another one.
    const Unit& newest = units_[arrived - 1];
    if (options_.scheme.congestion_window && !newest.arrived) rack_rtt_ = now - newest.last_sent;
    bytes_.pop(units_[arrived - 1].end - begin_);
    begin_ = units_[arrived - 1].end;
    units_.pop(arrived);
    first_unit_ += arrived;
  }
  for (const ByteRange& range : ack.ranges) {
    for (std::size_t i = 0; i < sent_units_ - first_unit_; ++i) {
      if (units_[i].arrived || begin_of(i) < range.begin || units_[i].end > range.end) continue;
      units_[i].arrived = true;
      units_[i].lost = false;
      ++news;
    }
  }
  holes_ = !ack.ranges.empty() || (holes_ && !units_.empty());
  if (ack.whole && units_.empty()) acknowledged_whole_ = true;
  if (news > 0 && before + 1 > static_cast<std::size_t>(window_)) {
    // Only a window that was used says something, RFC 7661.
    const auto n = static_cast<double>(news);
    window_ = std::min(window_ + (window_ < threshold_ ? n : n / window_), kMostPackets);
  }
  if (arrived > 0 || acknowledged_whole_) {
    timer_ = outstanding() ? now : kNever;
    backoff_ = 0;
    resend_pause_ = kFirstPause;
    probed_ = false;
  }
}

std::size_t StreamSender::in_flight() const {
  std::size_t count = 0;
  for (std::size_t i = 0; i < sent_units_ - first_unit_; ++i) {
    count += units_[i].arrived || units_[i].lost ? 0 : 1;
  }
  return count;
}

// RFC 6675 counts bytes; tokens are small, so packets are counted, as Linux does. What was sent a
// second time and lost again is left to the timeout.
void StreamSender::mark_lost_by_count() {
  std::size_t above = 0;
  bool lost = false;
  for (std::size_t i = sent_units_ - first_unit_; i-- > 0;) {
    Unit& unit = units_[i];
    if (unit.arrived) {
      ++above;
    } else if (above >= kDuplicates && !unit.lost && unit.first_sent == unit.last_sent) {
      unit.lost = lost = true;
    }
  }
  if (lost) on_loss();
}

TimeNs StreamSender::reordering_deadline() const {
  if (options_.scheme.recovery != Recovery::kRack) return kNever;
  TimeNs oldest = kNever;
  for (std::size_t i = 0; i < sent_units_ - first_unit_; ++i) {
    const Unit& unit = units_[i];
    if (!unit.arrived && !unit.lost && unit.last_sent < rack_sent_) {
      oldest = std::min(oldest, unit.last_sent);
    }
  }
  return oldest == kNever ? kNever : oldest + rack_rtt_ + rtt_.least() / 4;
}

void StreamSender::mark_lost_by_time(TimeNs now) {
  const TimeNs patience = rack_rtt_ + rtt_.least() / 4;
  bool lost = false;
  for (std::size_t i = 0; i < sent_units_ - first_unit_; ++i) {
    Unit& unit = units_[i];
    if (unit.arrived || unit.lost || unit.last_sent >= rack_sent_) continue;
    if (unit.last_sent + patience <= now) unit.lost = lost = true;
  }
  if (lost) on_loss();
}

// Half the window, once for all that was lost in one round trip.
void StreamSender::on_loss() {
  std::size_t first = 0;
  while (!units_[first].lost) ++first;
  if (first_unit_ + first < recover_) return;
  recover_ = sent_units_;
  threshold_ = std::max(static_cast<double>(in_flight()) / 2, 2.0);
  window_ = threshold_;
}

TimeNs StreamSender::probe_deadline() const {
  if (options_.scheme.recovery != Recovery::kRack || probed_ || !rtt_.known() || !outstanding()) {
    return kNever;
  }
  return last_sent_ + std::max(2 * rtt_.smoothed(), kLeastProbe);
}

TimeNs StreamSender::timeout_deadline() const {
  const Recovery recovery = options_.scheme.recovery;
  if (timer_ == kNever || !outstanding() ||
      (recovery != Recovery::kDupAck && recovery != Recovery::kRack)) {
    return kNever;
  }
  return timer_ + rtt_.timeout(options_.scheme.least_timeout, backoff_);
}

// How long an acknowledgement may take before a token counts as late.
TimeNs StreamSender::late_after() const {
  if (!rtt_.known()) return rtt_.timeout(options_.scheme.least_timeout, 0);
  return rtt_.smoothed() + std::max(rtt_.smoothed() * 15 / 100, 2 * rtt_.variation());
}

// When the oldest went out last; before that the end of the stream may be all that is left.
TimeNs StreamSender::oldest_sent() const {
  return units_.empty() || units_.front().last_sent == kNever ? last_sent_
                                                              : units_.front().last_sent;
}

// A resend ahead of the timeout, which costs credit.
TimeNs StreamSender::early_deadline() const {
  if (options_.scheme.recovery != Recovery::kTimer || options_.scheme.carry != Carry::kUnacked ||
      resend_ || !outstanding()) {
    return kNever;
  }
  const std::size_t around = options_.envelope_bytes + options_.path_bytes;
  if (credit_bytes_ < static_cast<double>(around + bytes_.size())) return kNever;
  const TimeNs first_sent = units_.empty() ? last_sent_ : units_.front().first_sent;
  return std::max(first_sent + late_after(), oldest_sent() + resend_pause_);
}

// The timeout of schemes that send again what is unacknowledged, whatever the credit.
TimeNs StreamSender::resend_deadline() const {
  const Scheme& scheme = options_.scheme;
  if (resend_ || !outstanding()) return kNever;
  if (scheme.carry == Carry::kMosh) return oldest_sent() + mosh_patience();
  const bool answers =
      scheme.recovery == Recovery::kTimer || (scheme.recovery == Recovery::kAtEnd && digest_);
  return answers ? oldest_sent() + rtt_.timeout(scheme.least_timeout, backoff_) : kNever;
}

void StreamSender::expire(TimeNs now) {
  if (done()) return;
  if (reordering_deadline() <= now) mark_lost_by_time(now);
  if (early_deadline() <= now) {
    resend_ = true;
    resend_pause_ += resend_pause_ / kPauseGrowth;
  } else if (resend_deadline() <= now) {
    resend_ = true;
    ++backoff_;
  }
  if (timeout_deadline() <= now) {
    threshold_ = std::max(static_cast<double>(in_flight()) / 2, 2.0);
    window_ = 1;
    recover_ = sent_units_;
    for (std::size_t i = 0; i < sent_units_ - first_unit_; ++i) units_[i].lost = !units_[i].arrived;
    fin_lost_ = fin_sent_;
    ++backoff_;
    timer_ = now;
  } else if (probe_deadline() <= now) {
    resend_ = probed_ = true;
  }
}

TimeNs StreamSender::wake_at() const {
  if (done()) return kNever;
  TimeNs at = std::min({reordering_deadline(), probe_deadline(), timeout_deadline(),
                        early_deadline(), resend_deadline()});
  if (blocked_) at = std::min(at, paced_at());
  if (options_.scheme.carry == Carry::kMosh && fresh()) {
    at = std::min(at, last_sent_ + mosh_interval());
  }
  return at;
}

template <typename Self, typename F>
void StreamSender::fields(Self& s, F& f) {
  f(s.begin_, s.first_unit_, s.bytes_, s.units_, s.sent_units_, s.digest_, s.fin_sent_, s.fin_lost_,
    s.acknowledged_whole_, s.next_number_, s.sent_times_, s.rtt_, s.last_sent_, s.timer_,
    s.blocked_, s.cursor_, s.cycling_, s.resend_, s.holes_, s.resend_pause_, s.copies_left_,
    s.copy_first_, s.copy_last_, s.rack_sent_, s.rack_rtt_, s.backoff_, s.probed_, s.recover_,
    s.window_, s.threshold_, s.pace_, s.credit_bytes_, s.resent_bytes_);
}

Bytes StreamSender::save() const {
  StateWriter writer;
  fields(*this, writer);
  return writer.take();
}

StreamSender StreamSender::restore(const SenderOptions& options, ByteView saved) {
  StreamSender sender(options);
  StateReader reader(saved, "sender");
  fields(sender, reader);
  reader.finish();
  std::uint64_t end = sender.begin_;
  for (const Unit& unit : sender.units_) {
    reader.check(unit.end > end, "units that do not ascend");
    end = unit.end;
  }
  reader.check(end - sender.begin_ == sender.bytes_.size(), "units that are not the bytes");
  reader.check(sender.sent_units_ >= sender.first_unit_ &&
                   sender.sent_units_ - sender.first_unit_ <= sender.units_.size() &&
                   sender.copy_first_ <= sender.copy_last_ &&
                   sender.copy_last_ <= sender.sent_units_ &&
                   sender.cursor_ <= sender.first_unit_ + sender.units_.size(),
               "units that were never there");
  reader.check(sender.sent_times_.size() < sender.next_number_, "packets that were never sent");
  return sender;
}

bool StreamSender::operator==(const StreamSender& other) const { return save() == other.save(); }

}  // namespace kv
