#include "kv/stream/receiver.hh"

#include "kv/stream/state_io.hh"

#include <algorithm>

namespace kv {

StreamReceiver::Verdict StreamReceiver::receive(TimeNs now, const DataPacket& packet) {
  fresh_.clear();
  const std::uint64_t end = packet.offset + packet.bytes.size();
  if (end > received_ && end - received_ > kWindowBytes) return Verdict::kTooFar;
  if (!note_end(packet)) return Verdict::kContradiction;
  const bool in_order = packet.offset <= received_ && beyond_.empty();
  Verdict verdict = take(packet.offset, packet.bytes);
  if (packet.unit) {
    if (!packet.bytes.empty()) units_.add_unit(*packet.unit, packet.bytes);
    for (const Repair& repair : packet.repairs) units_.add_repair(repair);
    take_units();
    if (!fresh_.empty()) verdict = Verdict::kTaken;
  }
  echo_ = packet.number;
  arrived_ = now;
  newest_ = packet.offset;
  const bool at_once = verdict != Verdict::kTaken || !in_order || whole();
  answer_at_ = std::min(answer_at_, at_once ? now : now + ack_delay_);
  return verdict;
}

bool StreamReceiver::note_end(const DataPacket& packet) {
  const std::uint64_t end = packet.offset + packet.bytes.size();
  if (end_ && end > *end_) return false;
  if (!packet.fin) return true;
  if (end_) return *end_ == end && digest_ == *packet.fin;
  const std::uint64_t last =
      beyond_.empty() ? received_ : beyond_.rbegin()->first + beyond_.rbegin()->second.size();
  if (end < last) return false;
  end_ = end;
  digest_ = *packet.fin;
  return true;
}

StreamReceiver::Verdict StreamReceiver::take(std::uint64_t offset, ByteView bytes) {
  const std::uint64_t end = offset + bytes.size();
  if (end <= received_) return Verdict::kKnown;
  if (offset <= received_) {
    const ByteView news = bytes.subspan(received_ - offset);
    fresh_.insert(fresh_.end(), news.begin(), news.end());
    received_ = end;
    while (!beyond_.empty() && beyond_.begin()->first <= received_) {
      const auto piece = beyond_.begin();
      const std::uint64_t piece_end = piece->first + piece->second.size();
      if (piece_end > received_) {
        const ByteView rest = ByteView(piece->second).subspan(received_ - piece->first);
        fresh_.insert(fresh_.end(), rest.begin(), rest.end());
        received_ = piece_end;
      }
      beyond_.erase(piece);
    }
    return Verdict::kTaken;
  }
  // Beyond a hole. Pieces stay disjoint: what overlaps gives way to the union.
  auto at = beyond_.lower_bound(offset);
  if (at != beyond_.begin()) {
    const auto before = std::prev(at);
    if (before->first + before->second.size() >= end) return Verdict::kKnown;
  }
  if (at != beyond_.end() && at->first == offset && at->second.size() >= bytes.size()) {
    return Verdict::kKnown;
  }
  Bytes piece(bytes.begin(), bytes.end());
  if (at != beyond_.begin()) {
    const auto before = std::prev(at);
    if (before->first + before->second.size() > offset) {
      piece.resize(before->first + before->second.size() < end
                       ? end - (before->first + before->second.size())
                       : 0);
      std::copy(bytes.end() - static_cast<std::ptrdiff_t>(piece.size()), bytes.end(),
                piece.begin());
      offset = end - piece.size();
    }
  }
  while (at != beyond_.end() && at->first < end) {
    const std::uint64_t at_end = at->first + at->second.size();
    if (at_end > end) {
      piece.resize(at->first - offset);
      break;
    }
    at = beyond_.erase(at);
  }
  if (!piece.empty()) beyond_.insert_or_assign(offset, std::move(piece));
  return Verdict::kTaken;
}

// Units that arrived or follow from combinations, in their order.
void StreamReceiver::take_units() {
  // Their numbers count from where this session began.
  while (true) {
    const Bytes* unit = units_.find(next_unit_);
    if (unit == nullptr) break;
    // A combination that contradicts the end that was told is not believed.
    if (end_ && (*end_ < unit_end_ || *end_ - unit_end_ < unit->size())) break;
    unit_end_ += unit->size();
    if (unit_end_ > received_) take(unit_end_ - unit->size(), *unit);
    ++next_unit_;
  }
  units_.delivered_before(next_unit_);
}

bool StreamReceiver::next_ack(TimeNs now, AckPacket& ack) {
  if (answer_at_ > now) return false;
  answer_at_ = kNever;
  ack.number = next_number_++;
  ack.received = received_;
  ack.whole = whole();
  ack.echo = echo_;
  ack.delay_us = static_cast<std::uint32_t>(
      std::clamp<TimeNs>((now - arrived_) / kMicrosecond, 0, 60'000'000));
  ack.ranges.clear();
  if (beyond_.empty()) return true;
  // Neighbours are one range. The one with the newest packet comes first, as TCP's SACK has it.
  std::vector<ByteRange> ranges;
  for (const auto& entry : beyond_) {
    const std::uint64_t end = entry.first + entry.second.size();
    if (!ranges.empty() && ranges.back().end == entry.first) {
      ranges.back().end = end;
    } else {
      ranges.push_back({entry.first, end});
    }
  }
  const auto newest = std::find_if(ranges.begin(), ranges.end(), [&](const ByteRange& range) {
    return newest_ >= range.begin && newest_ < range.end;
  });
  if (newest != ranges.end()) {
    ack.ranges.push_back(*newest);
    ranges.erase(newest);
  }
  for (auto range = ranges.rbegin(); range != ranges.rend(); ++range) {
    if (ack.ranges.size() == kMaxAckRanges) break;
    ack.ranges.push_back(*range);
  }
  return true;
}

template <typename Self, typename F>
void StreamReceiver::fields(Self& s, F& f) {
  f(s.received_, s.ack_delay_, s.beyond_, s.end_, s.digest_, s.fresh_, s.units_, s.next_unit_,
    s.unit_end_, s.next_number_, s.echo_, s.newest_, s.answer_at_, s.arrived_);
}

Bytes StreamReceiver::save() const {
  StateWriter writer;
  fields(*this, writer);
  return writer.take();
}

StreamReceiver StreamReceiver::restore(ByteView saved) {
  StreamReceiver receiver;
  StateReader reader(saved, "receiver");
  fields(receiver, reader);
  reader.finish();
  std::uint64_t end = receiver.received_;
  for (const auto& entry : receiver.beyond_) {
    reader.check(entry.first > receiver.received_ && entry.first >= end && !entry.second.empty(),
                 "pieces that overlap");
    end = entry.first + entry.second.size();
  }
  reader.check(!receiver.end_ || *receiver.end_ >= end, "bytes behind the end");
  return receiver;
}

}  // namespace kv
