// The state machines of a stream, in the worst company: packets lost, doubled, late and out of
// order.
#include "kv/stream/random.hh"
#include "kv/stream/receiver.hh"
#include "kv/stream/sender.hh"

#include <doctest/doctest.h>

#include <functional>

namespace {

using kv::kMillisecond;
using kv::TimeNs;

constexpr const char* kAll =
    "chatterbox,chatterbox+timer,chatterbox+timer:0.15,tcp,rack,duplicate:3,red:2,mosh,fec:1,fec:3";

struct Path {
  double loss = 0, twice = 0, shuffle = 0;
  TimeNs delay = 50 * kMillisecond;
  TimeNs black_from = 0, black_to = 0;  // nothing gets through
};

template <typename Packet>
class Way {
 public:
  Way(const Path& path, std::uint64_t seed) : path_(path), random_(seed) {}
  void send(TimeNs now, const Packet& packet) {
    if (now >= path_.black_from && now < path_.black_to) return;
    for (int copies = random_.chance(path_.twice) ? 2 : 1; copies > 0; --copies) {
      if (random_.chance(path_.loss)) continue;
      TimeNs at = now + path_.delay;
      if (random_.chance(path_.shuffle)) at += random_.exponential(2 * path_.delay);
      flying_.emplace(at, packet);
    }
  }
  TimeNs next() const { return flying_.empty() ? kv::kNever : flying_.begin()->first; }
  Packet land() {
    Packet packet = flying_.begin()->second;
    flying_.erase(flying_.begin());
    return packet;
  }

 private:
  Path path_;
  kv::Random random_;
  std::multimap<TimeNs, Packet> flying_;
};

struct Outcome {
  std::string text, sent;
  std::uint64_t packets = 0, resent = 0, digest = 0;
  std::size_t largest = 0;
  TimeNs ended = 0;
  bool done = false;
};

// Runs a stream of tokens through a path; `watch` sees both machines after every event.
using Watch = std::function<void(kv::StreamSender&, kv::StreamReceiver&)>;
Outcome run(const kv::SenderOptions& options, const Path& path, std::uint64_t seed,
            std::size_t tokens, const Watch& watch = {}, std::uint64_t offset = 0,
            std::size_t token_bytes = 0, TimeNs interval = 20 * kMillisecond) {
  kv::Random random(seed, 7);
  kv::StreamSender sender(options, offset);
  kv::StreamReceiver receiver(offset, seed % 2 ? 0 : 25 * kMillisecond);
  Way<kv::DataPacket> there(path, seed * 2 + 1);
  Way<kv::AckPacket> back(path, seed * 2 + 2);
  Outcome out;
  kv::DataPacket packet;
  kv::AckPacket ack;
  TimeNs now = 0, next_token = 0;
  for (int step = 0; step < 2'000'000 && !sender.done(); ++step) {
    const TimeNs made = tokens > 0 ? next_token : kv::kNever;
    const TimeNs at =
        std::min({made, sender.wake_at(), receiver.wake_at(), there.next(), back.next()});
    if (at == kv::kNever) break;  // everybody waits for somebody
    now = std::max(now, at);
    if (there.next() <= now) {
      receiver.receive(now, there.land());
      out.text += kv::as_text(receiver.fresh());
    } else if (back.next() <= now) {
      CHECK(sender.receive(now, back.land()));
    } else if (made <= now) {
      std::string token(token_bytes ? token_bytes : 1 + random.next() % 9, ' ');
      for (char& c : token) c = static_cast<char>(random.next());
      sender.push(kv::as_bytes(token));
      out.sent += token;
      next_token += interval;
      if (--tokens == 0) sender.finish(4711);
    }
    while (receiver.next_ack(now, ack)) back.send(now, ack);
    while (sender.next_packet(now, packet)) {
      ++out.packets;
      kv::Bytes bytes;
      kv::encode_data(packet, options.pad_to, bytes);
      out.largest = std::max(out.largest, bytes.size() + options.envelope_bytes);
      there.send(now, packet);
    }
    if (watch) watch(sender, receiver);
  }
  out.done = sender.done() && receiver.whole();
  out.digest = receiver.digest();
  out.resent = sender.resent_bytes();
  out.ended = now;
  return out;
}

kv::SenderOptions with(const std::string& scheme) {
  kv::SenderOptions options;
  options.scheme = kv::parse_scheme(scheme);
  return options;
}

}  // namespace

TEST_CASE("every scheme delivers every byte, whatever the path does") {
  const Path paths[] = {
      {},
      {.loss = 0.3},
      {.loss = 0.1, .twice = 0.5, .shuffle = 0.5},
      {.loss = 0.6, .delay = 5 * kMillisecond},
      {.loss = 0.05, .shuffle = 0.1, .black_from = kv::kSecond, .black_to = 9 * kv::kSecond}};
  for (const kv::Scheme& scheme : kv::parse_schemes(kAll)) {
    for (std::size_t i = 0; i < std::size(paths); ++i) {
      for (std::uint64_t seed = 1; seed <= 6; ++seed) {
        const std::string name = scheme.name;
        CAPTURE(name);
        CAPTURE(i);
        CAPTURE(seed);
        const Outcome out = run(with(name), paths[i], seed, 200);
        REQUIRE(out.done);
        REQUIRE(out.text == out.sent);
        CHECK(out.digest == 4711);
        CHECK(out.largest <= 1200);
      }
    }
  }
}

TEST_CASE("a machine that is saved and restored is equal and goes on the same") {
  for (const kv::Scheme& scheme : kv::parse_schemes(kAll)) {
    const std::string name = scheme.name;
    CAPTURE(name);
    const kv::SenderOptions options = with(name);
    const Path path = {.loss = 0.2, .twice = 0.1, .shuffle = 0.3};
    const Outcome plain = run(options, path, 3, 150);
    int events = 0;
    const Outcome saved =
        run(options, path, 3, 150, [&](kv::StreamSender& sender, kv::StreamReceiver& receiver) {
          ++events;
          const kv::Bytes sender_bytes = sender.save(), receiver_bytes = receiver.save();
          kv::StreamSender sender_again = kv::StreamSender::restore(options, sender_bytes);
          kv::StreamReceiver receiver_again = kv::StreamReceiver::restore(receiver_bytes);
          REQUIRE(sender_again == sender);
          REQUIRE(receiver_again == receiver);
          if (events % 7 == 0) {
            // Half a state is none.
            CHECK_THROWS_AS(kv::StreamSender::restore(
                                options, kv::ByteView(sender_bytes).first(sender_bytes.size() / 2)),
                            kv::Error);
            CHECK_THROWS_AS(kv::StreamReceiver::restore(
                                kv::ByteView(receiver_bytes).first(receiver_bytes.size() / 2)),
                            kv::Error);
          }
          sender = std::move(sender_again);
          receiver = std::move(receiver_again);
        });
    CHECK(events > 100);
    CHECK(saved.text == plain.text);
    CHECK(saved.packets == plain.packets);
    CHECK(saved.ended == plain.ended);
  }
}

TEST_CASE("chatterbox: a packet holds the new tokens and all unacknowledged ones") {
  kv::StreamSender sender(with("chatterbox"));
  kv::DataPacket packet;
  std::string all;
  for (int i = 0; i < 20; ++i) {
    const std::string token = "t" + std::to_string(i);
    sender.push(kv::as_bytes(token));
    all += token;
    REQUIRE(sender.next_packet(i * 50 * kMillisecond, packet));
    CHECK(packet.offset == 0);
    CHECK(kv::as_text(packet.bytes) == all);
    CHECK_FALSE(sender.next_packet(i * 50 * kMillisecond, packet));
    CHECK(sender.wake_at() == kv::kNever);  // nothing happens until the next token
  }
  // What is acknowledged is left out.
  REQUIRE(sender.receive(kv::kSecond, {.received = 20, .echo = 9}));
  sender.push(kv::as_bytes("end"));
  REQUIRE(sender.next_packet(kv::kSecond, packet));
  CHECK(packet.offset == 20);
  CHECK(kv::as_text(packet.bytes) == all.substr(20) + "end");
  // An acknowledgement of what was never sent changes nothing.
  const kv::Bytes before = sender.save();
  CHECK_FALSE(sender.receive(kv::kSecond, {.received = 54, .echo = 9}));
  CHECK_FALSE(sender.receive(kv::kSecond, {.received = 20, .echo = 22}));
  CHECK_FALSE(sender.receive(kv::kSecond, {.received = 20, .whole = true, .echo = 1}));
  CHECK_FALSE(sender.receive(kv::kSecond, {.received = 20, .echo = 1, .ranges = {{30, 60}}}));
  CHECK(sender.save() == before);
}

TEST_CASE("the timer resends after 1.15 round trips, ever more rarely, and at the end") {
  kv::StreamSender sender(with("chatterbox+timer"));
  kv::DataPacket packet;
  const auto ms = [](double value) { return static_cast<TimeNs>(value * 1e6); };
  // Twenty equal round trips of 100 ms, so that the variation is gone.
  TimeNs now = 0;
  for (std::uint64_t i = 0; i < 40; ++i) {
    sender.push(kv::as_bytes("x"));
    REQUIRE(sender.next_packet(now, packet));
    now += ms(100);
    REQUIRE(sender.receive(now, {.received = i + 1, .echo = i + 1}));
  }
  CHECK(sender.wake_at() == kv::kNever);
  sender.push(kv::as_bytes("y"));
  REQUIRE(sender.next_packet(now, packet));
  CHECK(sender.wake_at() == now + ms(115));
  CHECK_FALSE(sender.next_packet(now + ms(114), packet));
  TimeNs at = sender.wake_at(), pause = 0;
  for (int i = 0; i < 10; ++i) {
    REQUIRE(sender.next_packet(at, packet));
    CHECK(kv::as_text(packet.bytes) == "y");
    CHECK(sender.wake_at() - at > pause);
    pause = sender.wake_at() - at;
    at = sender.wake_at();
  }
  // Until the credit is gone; then the timeouts, each twice as long.
  int packets = 0;
  for (; packets < 200 && at - now < 100 * kv::kSecond; ++packets) {
    sender.next_packet(at, packet);
    at = sender.wake_at();
  }
  CHECK(packets < 40);
  CHECK(packets > 10);
}

TEST_CASE("what does not fit into a packet goes oldest first") {
  for (const char* scheme : {"chatterbox", "chatterbox+timer:100"}) {
    kv::SenderOptions options = with(scheme);
    options.packet_bytes = 300;
    kv::StreamSender sender(options);
    kv::DataPacket packet;
    std::string all;
    for (int i = 0; i < 200; ++i) {
      std::string token = std::to_string(1000 + i);
      sender.push(kv::as_bytes(token));
      all += token;
    }
    std::string got;
    while (sender.next_packet(0, packet)) {
      CHECK(packet.offset == got.size());
      CHECK(packet.bytes.size() <= 300);
      CHECK(packet.bytes.size() % 4 == 0);  // between tokens
      got += kv::as_text(packet.bytes);
    }
    CHECK(got == all.substr(0, got.size()));
    CHECK(got.size() == all.size());
  }
}

TEST_CASE("packets are paced, and the cap on redundancy holds over an outage") {
  kv::SenderOptions options = with("chatterbox+timer:0.2");
  options.rate_bytes_per_s = 10'000;
  const Path path = {.black_from = 2 * kv::kSecond, .black_to = 20 * kv::kSecond};
  const Outcome out = run(options, path, 5, 3000, {}, 0, 0, 10 * kMillisecond);
  CHECK(out.done);
  CHECK(out.text == out.sent);
  const double copy = static_cast<double>(out.sent.size()) + 3000.0 * 52;
  CHECK(static_cast<double>(out.resent) < 0.25 * copy);
  // 10 kB a second behind a burst of ten packets.
  CHECK(static_cast<double>(out.packets) * 52 + static_cast<double>(out.resent + out.sent.size()) <
        12'000 + 1e4 * static_cast<double>(out.ended) / 1e9);
}

TEST_CASE("a stream goes on at any offset, and large tokens are cut") {
  for (const kv::Scheme& scheme : kv::parse_schemes(kAll)) {
    const std::string name = scheme.name;
    CAPTURE(name);
    const Outcome out = run(with(name), {.loss = 0.2}, 9, 30, {}, 123'456'789, 3000);
    CHECK(out.done);
    CHECK(out.text == out.sent);
    CHECK(out.largest <= 1200);
  }
}

TEST_CASE("a receiver refuses contradictions and does not store without limit") {
  using Verdict = kv::StreamReceiver::Verdict;
  kv::StreamReceiver receiver;
  const auto bytes = [](const char* text) {
    const auto view = kv::as_bytes(text);
    return kv::Bytes(view.begin(), view.end());
  };
  CHECK(receiver.receive(0, {.offset = 2'000'000, .bytes = bytes("x")}) == Verdict::kTooFar);
  CHECK(receiver.receive(0, {.offset = 0, .bytes = bytes("ab")}) == Verdict::kTaken);
  CHECK(receiver.receive(0, {.offset = 0, .bytes = bytes("ab")}) == Verdict::kKnown);
  CHECK(receiver.receive(0, {.offset = 6, .bytes = bytes("gh")}) == Verdict::kTaken);
  CHECK(receiver.receive(0, {.offset = 4, .bytes = bytes("e"), .fin = 1}) ==
        Verdict::kContradiction);
  CHECK(receiver.receive(0, {.offset = 8, .bytes = bytes("i"), .fin = 1}) == Verdict::kTaken);
  CHECK(receiver.receive(0, {.offset = 8, .bytes = bytes("i"), .fin = 2}) ==
        Verdict::kContradiction);
  CHECK(receiver.receive(0, {.offset = 9, .bytes = bytes("j")}) == Verdict::kContradiction);
  CHECK(receiver.receive(0, {.offset = 1, .bytes = bytes("bcdef")}) == Verdict::kTaken);
  CHECK(kv::as_text(receiver.fresh()) == "cdefghi");
  CHECK(receiver.whole());
}

TEST_CASE("pieces in any order and with any overlap are put together") {
  kv::Random random(11);
  std::string text(400, ' ');
  for (char& c : text) c = static_cast<char>('a' + random.next() % 26);
  for (int round = 0; round < 300; ++round) {
    kv::StreamReceiver receiver;
    std::string got;
    while (!receiver.whole()) {
      const std::size_t begin = random.next() % text.size();
      const std::size_t size = std::min<std::size_t>(1 + random.next() % 40, text.size() - begin);
      kv::DataPacket packet;
      packet.offset = begin;
      const auto part = kv::as_bytes(text).subspan(begin, size);
      packet.bytes.assign(part.begin(), part.end());
      if (begin + size == text.size()) packet.fin = 0;
      receiver.receive(0, packet);
      got += kv::as_text(receiver.fresh());
      // And what it says of holes is what it has.
      kv::AckPacket ack;
      REQUIRE(receiver.next_ack(0, ack));
      CHECK(ack.received == got.size());
      for (const kv::ByteRange& range : ack.ranges) CHECK(range.begin > ack.received);
    }
    REQUIRE(got == text);
  }
}

TEST_CASE("as many combinations as units are missing bring them back") {
  kv::Random random(12);
  for (int round = 0; round < 500; ++round) {
    const std::size_t count = 1 + random.next() % 64;
    std::vector<kv::Bytes> units(count);
    std::vector<kv::ByteView> views;
    for (kv::Bytes& unit : units) {
      unit.resize(1 + random.next() % 255);
      for (std::byte& byte : unit) byte = static_cast<std::byte>(random.next());
      views.push_back(unit);
    }
    kv::FecDecoder decoder;
    std::size_t missing = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (random.chance(0.3)) {
        ++missing;
      } else {
        CHECK(decoder.add_unit(100 + i, units[i]));
      }
    }
    // One more than missing: two random rows of GF(256) depend on each other once in 255 times.
    for (std::uint32_t key = 0; key < missing + 2; ++key) {
      CHECK(decoder.add_repair(kv::make_repair(100, views, key)));
    }
    for (std::size_t i = 0; i < count; ++i) {
      REQUIRE(decoder.find(100 + i) != nullptr);
      REQUIRE(*decoder.find(100 + i) == units[i]);
    }
  }
}

TEST_CASE("round trips are estimated as RFC 6298 says") {
  kv::RttEstimate rtt;
  CHECK(rtt.timeout(200 * kMillisecond, 0) == kv::kSecond);
  rtt.add(100 * kMillisecond);
  CHECK(rtt.smoothed() == 100 * kMillisecond);
  CHECK(rtt.variation() == 50 * kMillisecond);
  CHECK(rtt.timeout(0, 0) == 300 * kMillisecond);
  rtt.add(180 * kMillisecond);
  CHECK(rtt.smoothed() == 110 * kMillisecond);  // 7/8 100 + 1/8 180
  CHECK(rtt.variation() == 57'500'000);         // 3/4 50 + 1/4 80
  CHECK(rtt.timeout(0, 2) == 4 * 340 * kMillisecond);
  CHECK(rtt.timeout(kv::kSecond, 0) == 1110 * kMillisecond);
  CHECK(rtt.timeout(0, 60) == 60 * kv::kSecond);
  rtt.add(-5);
  rtt.add(0);
  CHECK(rtt.least() == 100 * kMillisecond);
}

TEST_CASE("names of schemes") {
  CHECK(kv::parse_scheme("red:3").depth == 3);
  CHECK(kv::parse_scheme("duplicate:4").copies == 4);
  CHECK(kv::parse_scheme("chatterbox:0.5").redundancy == 0.5);
  for (const char* bad : {"", "chatterbox:", "chatterbox:0", "chatterbox+timer:nan", "red:0",
                          "red:17", "duplicate:1", "tcp:2", "fec:5", "udp", "red:2x"}) {
    CHECK_THROWS_AS(kv::parse_scheme(bad), kv::Error);
  }
  CHECK_THROWS_AS(kv::parse_schemes("tcp,tcp"), kv::Error);
  CHECK_THROWS_AS(kv::parse_schemes("tcp,"), kv::Error);
}
