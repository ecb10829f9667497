#include "kv/stream/simulate.hh"

#include "kv/stream/receiver.hh"
#include "kv/stream/varint.hh"

#include <algorithm>

namespace kv {
namespace {

constexpr std::size_t kHeaderBytes = 5;  // type and session; the number comes on top
constexpr std::size_t kLongestHeader = kHeaderBytes + 9;
constexpr TimeNs kPatience = 3600 * kSecond;

// A stream's content: any position's byte can be checked without keeping the others.
std::byte byte_at(std::uint64_t offset) {
  return static_cast<std::byte>(offset * 0x9E3779B97F4A7C15 >> 56);
}

// Things on their way, which keep their memory for the next ones.
template <typename T>
class InFlight {
 public:
  T& prepare() {
    if (free_.empty()) {
      free_.push_back(slots_.size());
      slots_.emplace_back();
    }
    return slots_[free_.back()];
  }
  // What was prepared arrives then.
  void launch(TimeNs at) {
    heap_.push_back({at, launched_++, free_.back()});
    free_.pop_back();
    std::push_heap(heap_.begin(), heap_.end());
  }
  TimeNs next_at() const { return heap_.empty() ? kNever : heap_.front().at; }
  // The next to arrive; valid until prepare().
  T& land() {
    std::pop_heap(heap_.begin(), heap_.end());
    const std::size_t slot = heap_.back().slot;
    heap_.pop_back();
    free_.push_back(slot);
    return slots_[slot];
  }

 private:
  struct Entry {
    TimeNs at;
    std::uint64_t order;
    std::size_t slot;
    bool operator<(const Entry& other) const {
      return at != other.at ? at > other.at : order > other.order;
    }
  };
  std::vector<T> slots_;
  std::vector<std::size_t> free_;
  std::vector<Entry> heap_;
  std::uint64_t launched_ = 0;
};

SenderOptions sender_options(const SimulationOptions& o, const Scheme& scheme) {
  SenderOptions options;
  options.scheme = scheme;
  options.packet_bytes = o.packet_bytes;
  options.envelope_bytes = kLongestHeader + o.seal_bytes;
  options.path_bytes = o.path_bytes;
  options.pad_to = o.pad_to;
  return options;
}

class Simulation {
 public:
  Simulation(const SimulationOptions& o, const Scheme& scheme, std::uint64_t seed,
             Timeline* timeline)
      : o_(o),
        sender_(sender_options(o, scheme)),
        receiver_(0, o.ack_delay),
        forward_(o.forward, seed, 0),
        back_(o.back, seed, 1),
        source_(o.source, seed),
        totals_(o.thresholds),
        timeline_(timeline) {}

  StreamTotals run() {
    token_ = source_.next();
    TimeNs progress = token_ ? token_->at : 0;
    std::uint64_t before = 0;
    // Until the last token is there: what comes behind it is acknowledgements only.
    while (!receiver_.whole()) {
      const TimeNs made = token_ ? token_->at : kNever;
      const TimeNs now = std::max(now_, std::min({made, sender_.wake_at(), receiver_.wake_at(),
                                                  data_.next_at(), acks_.next_at()}));
      if (receiver_.received() != before || token_) {
        before = receiver_.received();
        progress = now_;
      }
      if (now == kNever || now - progress > kPatience) {
        fail_input("--loss '{}': for an hour nothing gets through", o_.forward.loss.text);
      }
      now_ = now;
      if (data_.next_at() <= now) {
        arrive(data_.land());
      } else if (acks_.next_at() <= now) {
        sender_.receive(now, acks_.land());
      } else if (made <= now) {
        make();
      }
      answer();
      transmit();
    }
    totals_.streams = 1;
    totals_.lost_packets = forward_.lost();
    totals_.queue_drops = forward_.dropped();
    totals_.last_token_ns = totals_.shown.last();
    totals_.resent_bytes = sender_.resent_bytes();
    return totals_;
  }

 private:
  struct Expected {
    std::uint64_t end;
    TimeNs made;
  };

  std::size_t envelope(std::uint64_t number) const {
    return o_.path_bytes + kHeaderBytes + varint_size(number) + o_.seal_bytes;
  }
  std::size_t padded(std::size_t size) const {
    return o_.pad_to > 1 ? 2 + (o_.pad_to - size % o_.pad_to) % o_.pad_to : 0;
  }

  void make() {
    std::array<std::byte, 4096> bytes;
    for (std::uint32_t i = 0; i < token_->size_bytes; ++i) bytes[i] = byte_at(made_bytes_ + i);
    sender_.push(ByteView(bytes).first(token_->size_bytes));
    const std::uint64_t number = totals_.tokens++;
    totals_.copy_wire_bytes += envelope(number) + 1 + varint_size(made_bytes_) +
                               padded(token_->size_bytes) + token_->size_bytes;
    made_bytes_ += token_->size_bytes;
    totals_.text_bytes += token_->size_bytes;
    totals_.source.token(now_);
    expected_.push({made_bytes_, now_});
    if (drawn()) timeline_->made.push_back(now_);
    if (timeline_) ends_.push_back(made_bytes_);
    token_ = source_.next();
    if (!token_) sender_.finish(0);
  }

  void transmit() {
    while (sender_.next_packet(now_, data_.prepare())) {
      const DataPacket& packet = data_.prepare();
      const std::size_t size =
          envelope(packet.number) + data_size_bytes(packet) + padded(packet.bytes.size());
      ++totals_.packets;
      totals_.wire_bytes += size;
      const std::optional<TimeNs> at = forward_.send(now_, size);
      if (drawn()) draw(packet, at);
      if (at) data_.launch(*at);
    }
  }

  void answer() {
    while (receiver_.next_ack(now_, acks_.prepare())) {
      const AckPacket& ack = acks_.prepare();
      const std::size_t size = envelope(ack.number) + ack_size_bytes(ack);
      ++totals_.ack_packets;
      totals_.ack_wire_bytes += size;
      if (const std::optional<TimeNs> at = back_.send(now_, size)) acks_.launch(*at);
    }
  }

  void arrive(const DataPacket& packet) {
    receiver_.receive(now_, packet);
    const ByteView fresh = receiver_.fresh();
    const std::uint64_t begin = receiver_.received() - fresh.size();
    for (std::size_t i = 0; i < fresh.size(); ++i) {
      if (fresh[i] != byte_at(begin + i)) {
        fail(ErrorKind::kIo, "internal error: byte {} arrived changed", begin + i);
      }
    }
    while (!expected_.empty() && expected_.front().end <= receiver_.received()) {
      show(expected_.front().made);
      expected_.pop(1);
    }
  }

  void show(TimeNs made) {
    if (totals_.shown.tokens() == 0) {
      shift_ = now_ - made + o_.playout;
      totals_.first_token_ns = made + shift_;
    }
    TimeNs at = now_;
    if (o_.playout > 0) at = std::max(at, made + shift_);
    shown_ = std::max(at, shown_);
    totals_.shown.token(shown_);
    if (timeline_ && timeline_->shown.size() < timeline_->made.size()) {
      timeline_->shown.push_back(shown_);
    }
  }

  bool drawn() const { return timeline_ && now_ <= timeline_->until; }
  void draw(const DataPacket& packet, std::optional<TimeNs> at) {
    const auto first = std::upper_bound(ends_.begin(), ends_.end(), packet.offset);
    const auto last =
        std::upper_bound(ends_.begin(), ends_.end(), packet.offset + packet.bytes.size());
    const auto number = static_cast<std::uint64_t>(first - ends_.begin());
    const auto end = static_cast<std::uint64_t>(last - ends_.begin());
    timeline_->packets.push_back(
        {now_, at.value_or(kNever), number, end - number, number < drawn_tokens_});
    drawn_tokens_ = std::max(drawn_tokens_, end);
  }

  const SimulationOptions& o_;
  StreamSender sender_;
  StreamReceiver receiver_;
  Link forward_, back_;
  TokenSource source_;
  std::optional<TimedToken> token_;
  InFlight<DataPacket> data_;
  InFlight<AckPacket> acks_;
  Fifo<Expected> expected_;
  std::uint64_t made_bytes_ = 0;
  TimeNs now_ = 0, shift_ = 0, shown_ = 0;
  StreamTotals totals_;
  Timeline* timeline_;
  std::vector<std::uint64_t> ends_;  // of tokens, while there is a timeline
  std::uint64_t drawn_tokens_ = 0;
};

}  // namespace

void StreamTotals::merge(const StreamTotals& other) {
  shown.merge(other.shown);
  source.merge(other.source);
  streams += other.streams;
  tokens += other.tokens;
  text_bytes += other.text_bytes;
  packets += other.packets;
  wire_bytes += other.wire_bytes;
  ack_packets += other.ack_packets;
  ack_wire_bytes += other.ack_wire_bytes;
  lost_packets += other.lost_packets;
  queue_drops += other.queue_drops;
  copy_wire_bytes += other.copy_wire_bytes;
  first_token_ns += other.first_token_ns;
  last_token_ns += other.last_token_ns;
  resent_bytes += other.resent_bytes;
}

StreamTotals simulate(const SimulationOptions& options, const Scheme& scheme, std::uint64_t seed,
                      Timeline* timeline) {
  return Simulation(options, scheme, seed, timeline).run();
}

}  // namespace kv
