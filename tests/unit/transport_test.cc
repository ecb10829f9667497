// The ends of transport without sockets: seals, replays, who may move a session, what a stranger
// gets.
#include "kv/stream/random.hh"
#include "kv/transport/client.hh"
#include "kv/transport/udp.hh"

#include <doctest/doctest.h>

#include <deque>

namespace {

using kv::kMillisecond;
using kv::kSecond;
using kv::TimeNs;

kv::Bytes bytes_of(std::string_view text) {
  const auto view = kv::as_bytes(text);
  return {view.begin(), view.end()};
}

struct World {
  explicit World(const char* secret = nullptr) {
    if (secret != nullptr) key = kv::SharedKey(kv::as_bytes(secret));
    kv::ServerOptions options;
    options.key = key;
    options.sender.scheme = kv::parse_scheme("chatterbox+timer");
    server.emplace(options, [this](const kv::Peer& to, kv::ByteView datagram) {
      to_clients.emplace_back(to, kv::Bytes(datagram.begin(), datagram.end()));
    });
  }
  void start_client(std::string_view has = "") {
    kv::ClientOptions options;
    options.key = key;
    options.offset = has.size();
    kv::StreamHash hash;
    hash.add(kv::as_bytes(has));
    client.emplace(
        now, options,
        [this](kv::ByteView datagram) {
          to_server.emplace_back(here, kv::Bytes(datagram.begin(), datagram.end()));
        },
        [this](kv::ByteView bytes) { text += kv::as_text(bytes); }, std::move(hash));
  }
  // Until nothing is on its way; time stands still.
  void settle() {
    while (!to_server.empty() || !to_clients.empty()) {
      if (!to_server.empty()) {
        const auto [from, datagram] = to_server.front();
        to_server.pop_front();
        seen.push_back(datagram);
        server->receive(now, from, datagram);
      } else {
        const auto [to, datagram] = to_clients.front();
        to_clients.pop_front();
        if (to == here) client->receive(now, datagram);
      }
    }
  }

  // The packet by which the client says then that it is there, taken off its way.
  kv::Bytes alive_at(TimeNs then) {
    now = then;
    client->wake(now);
    REQUIRE(to_server.size() == 1);
    kv::Bytes datagram = std::move(to_server[0].second);
    to_server.clear();
    return datagram;
  }

  kv::SharedKey key;
  TimeNs now = 0;
  kv::Peer here = "here";
  std::optional<kv::StreamServer> server;
  std::optional<kv::StreamClient> client;
  std::deque<std::pair<kv::Peer, kv::Bytes>> to_server, to_clients;
  std::vector<kv::Bytes> seen;
  std::string text;
};

}  // namespace

TEST_CASE("a seal finds every flipped bit, every truncation and every other number") {
  for (const bool keyed : {false, true}) {
    const kv::SharedKey key =
        keyed ? kv::SharedKey(kv::as_bytes("0123456789abcdef")) : kv::SharedKey();
    const kv::Seal seal(key, "data", {}, {});
    const kv::Envelope envelope = {kv::PacketType::kData, 0x12345678, 300};
    kv::Bytes datagram, body;
    const kv::Bytes clear = bytes_of("salt"), sent = bytes_of("hello, receiver");
    seal.close(envelope, clear, sent, datagram);
    CHECK(datagram.size() == 5 + 2 + 4 + sent.size() + seal.overhead_bytes());
    const auto opens = [&](const kv::Bytes& bytes) {
      kv::Envelope found;
      return kv::parse_envelope(bytes, keyed, found) && seal.open(found, 4, bytes, body);
    };
    REQUIRE(opens(datagram));
    CHECK(body == sent);
    for (std::size_t bit = 0; bit < 8 * datagram.size(); ++bit) {
      kv::Bytes bad = datagram;
      bad[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
      CHECK_FALSE(opens(bad));
    }
    for (std::size_t size = 0; size < datagram.size(); ++size) {
      CHECK_FALSE(
          opens(kv::Bytes(datagram.begin(), datagram.begin() + static_cast<std::ptrdiff_t>(size))));
    }
    // Nothing in clear with a key.
    if (keyed) CHECK(kv::as_text(datagram).find("receiver") == std::string_view::npos);
    // Another purpose, another key.
    if (keyed) {
      CHECK_FALSE(kv::Seal(key, "ack", {}, {}).open(envelope, 4, datagram, body));
      kv::Salt salt{};
      salt[3] = std::byte{1};
      CHECK_FALSE(kv::Seal(key, "data", salt, {}).open(envelope, 4, datagram, body));
      CHECK_FALSE(kv::Seal(key, "data", {}, salt).open(envelope, 4, datagram, body));
    }
  }
  CHECK_THROWS_AS(kv::SharedKey(kv::as_bytes("15 bytes, short")), kv::Error);
}

TEST_CASE("a number is taken once, as a list of all of them says") {
  kv::Random random(1);
  for (int round = 0; round < 50; ++round) {
    kv::ReplayWindow window;
    std::vector<bool> seen(3000);
    std::uint64_t newest = 0;
    bool first = true;
    for (int i = 0; i < 2000; ++i) {
      const std::uint64_t number = std::min<std::uint64_t>(
          2999, newest + random.next() % 70 - std::min<std::uint64_t>(newest, 67));
      const bool fits = first || (number + 64 > newest && !seen[number]);
      REQUIRE(window.take(number) == fits);
      if (!fits) continue;
      seen[number] = true;
      newest = first ? number : std::max(newest, number);
      first = false;
    }
  }
}

TEST_CASE("a stream, a late receiver, and one that goes on") {
  for (const char* secret : {static_cast<const char*>(nullptr), "a secret of theirs"}) {
    World world(secret);
    world.server->push(0, "", bytes_of("one "));
    world.start_client();
    world.settle();
    CHECK(world.text == "one ");
    world.server->push(0, "", bytes_of("two "));
    world.settle();
    CHECK(world.text == "one two ");
    world.start_client("one tw");
    world.settle();
    CHECK(world.text == "one two o ");
    world.server->push(0, "", bytes_of("three"));
    world.server->finish_all(0);
    world.settle();
    CHECK(world.text == "one two o three");
    CHECK(world.client->state() == kv::StreamClient::State::kEnded);
    CHECK(world.client->received_bytes() == 13);
    CHECK(world.server->delivered() == 1);
    // More than there is.
    world.start_client("one two three ");
    world.settle();
    CHECK(world.client->state() == kv::StreamClient::State::kRefused);
    CHECK(world.client->reason() == kv::CloseReason::kBeyond);
  }
}

TEST_CASE("who has something else's beginning gets nothing, who is ahead waits") {
  World world("a secret of theirs");
  world.server->push(0, "", bytes_of("one "));
  world.start_client("onE");
  world.settle();
  CHECK(world.client->state() == kv::StreamClient::State::kRefused);
  CHECK(world.client->reason() == kv::CloseReason::kOther);
  CHECK(world.text.empty());
  // The sender was started again and is not as far yet.
  world.start_client("one two ");
  world.settle();
  world.server->push(0, "", bytes_of("two "));
  world.settle();
  CHECK(world.client->state() == kv::StreamClient::State::kOpen);
  CHECK(world.text.empty());
  world.server->push(0, "", bytes_of("three"));
  world.settle();
  CHECK(world.text == "three");
  // It ends before it is as far.
  World other;
  other.server->push(0, "", bytes_of("one "));
  other.start_client("one two ");
  other.settle();
  CHECK(other.client->state() == kv::StreamClient::State::kOpen);
  other.server->finish_all(0);
  other.settle();
  CHECK(other.client->state() == kv::StreamClient::State::kRefused);
  CHECK(other.client->reason() == kv::CloseReason::kBeyond);
}

TEST_CASE("a receiver whose answers are lost at the end stays until the sender has one") {
  World world;
  world.server->push(0, "", bytes_of("a"));
  world.start_client();
  world.settle();
  world.server->finish_all(0);
  for (; world.now < 12 * kSecond; world.now += 50 * kMillisecond) {
    if (world.now < 10 * kSecond) world.to_server.clear();
    world.settle();
    world.server->wake(world.now);
    world.client->wake(world.now);
  }
  CHECK(world.server->delivered() == 1);
  CHECK(world.client->state() == kv::StreamClient::State::kEnded);
}

TEST_CASE("refusals are sealed differently each time") {
  World world("a secret of theirs");
  world.server->finish_all(0);
  world.start_client();
  const kv::Bytes hello = world.to_server[0].second;
  world.server->receive(0, "here", hello);
  world.server->receive(0, "here", hello);
  REQUIRE(world.to_clients.size() == 2);
  CHECK(world.to_clients[0].second != world.to_clients[1].second);
  for (const auto& entry : world.to_clients) CHECK(entry.second.size() <= hello.size());
  world.settle();
  CHECK(world.client->reason() == kv::CloseReason::kNoStream);
}

TEST_CASE("nobody is sent a stream who only copies packets") {
  World world("a secret of theirs");
  world.server->push(0, "", kv::Bytes(20'000, std::byte{'x'}));
  world.start_client();
  world.settle();
  const std::vector<kv::Bytes> seen = world.seen;
  REQUIRE(seen.size() > 3);
  // A thief sends all that the receiver said, from elsewhere, again and to a new sender.
  for (const kv::Bytes& datagram : seen) world.server->receive(world.now, "thief", datagram);
  CHECK(world.to_clients.empty());
  CHECK(world.server->counts().replayed == seen.size() - 1);
  World other("a secret of theirs");
  other.server->push(0, "", kv::Bytes(20'000, std::byte{'x'}));
  for (const kv::Bytes& datagram : seen) other.server->receive(0, "thief", datagram);
  // It answers the question, with no more bytes than that had; the answers to another do not count.
  REQUIRE(other.to_clients.size() == 1);
  CHECK(other.to_clients[0].second.size() <= seen[0].size());
  CHECK(other.server->counts().foreign == seen.size() - 1);
}

TEST_CASE("the sender goes after a receiver that moves, not after its old packets") {
  World world("a secret of theirs");
  world.server->push(0, "", bytes_of("a"));
  world.start_client();
  world.settle();
  const kv::Bytes held = world.alive_at(2 * kSecond);  // on its way from the old address
  world.here = "there";
  world.now = 4 * kSecond - 1;
  world.client->wake(world.now);
  world.settle();
  world.server->receive(world.now, "here", held);
  world.server->push(world.now, "", bytes_of("b"));
  CHECK(world.to_clients.size() >= 1);
  for (const auto& entry : world.to_clients) CHECK(entry.first == "there");
  world.settle();
  CHECK(world.text == "ab");
}

TEST_CASE("a copied packet does not send the stream to somebody else") {
  World world("a secret of theirs");
  world.server->push(0, "", bytes_of("a"));
  world.start_client();
  world.settle();
  const kv::Bytes newest = world.alive_at(2 * kSecond);
  world.server->receive(world.now, "victim", newest);
  world.server->push(world.now, "", kv::Bytes(10'000, std::byte{'x'}));
  REQUIRE(world.to_clients.size() == 1);
  CHECK(world.to_clients[0].first == "victim");
  CHECK(world.to_clients[0].second.size() <= newest.size());
  // The receiver speaks again; after one packet and its answer the stream goes on.
  world.to_clients.clear();
  world.now = 3 * kSecond;
  world.client->wake(world.now);
  world.settle();
  CHECK(world.text.size() == 10'001);
}

TEST_CASE("a session's number cannot be taken, and garbage is counted") {
  World world;
  world.server->push(0, "", bytes_of("a"));
  world.start_client();
  const kv::Bytes hello = world.to_server[0].second;
  world.settle();
  // The same session with another salt.
  kv::Envelope envelope;
  REQUIRE(kv::parse_envelope(hello, false, envelope));
  kv::Salt salt{};
  kv::Bytes body(64), datagram;
  kv::Seal(kv::SharedKey(), "hello", salt, {}).close(envelope, salt, body, datagram);
  world.server->receive(0, "thief", datagram);
  REQUIRE(world.to_clients.size() == 1);
  CHECK(world.to_clients[0].first == "thief");
  world.to_clients.clear();
  kv::Random random(5);
  const std::uint64_t before = world.server->counts().malformed + world.server->counts().foreign;
  for (int i = 0; i < 20'000; ++i) {
    kv::Bytes garbage(random.next() % 80);
    for (std::byte& byte : garbage) byte = static_cast<std::byte>(random.next());
    world.server->receive(0, "thief", garbage);
    world.client->receive(0, garbage);
  }
  CHECK(world.server->counts().malformed + world.server->counts().foreign == before + 20'000);
  CHECK(world.to_clients.empty());
  CHECK(world.text == "a");
}

TEST_CASE("who is silent is lost, on both sides") {
  World world;
  world.server->push(0, "", bytes_of("a"));
  world.start_client();
  world.settle();
  CHECK(world.server->sessions() == 1);
  for (; world.now < 40 * kSecond; world.now += 100 * kMillisecond) {
    world.server->wake(world.now);
    world.client->wake(world.now);
    world.to_server.clear();
    world.to_clients.clear();
  }
  CHECK(world.server->sessions() == 0);
  CHECK(world.server->lost() == 1);
  CHECK(world.client->state() == kv::StreamClient::State::kLost);
}

TEST_CASE("a quiet stream is no lost one") {
  World world;
  world.server->push(0, "", bytes_of("a"));
  world.start_client();
  world.settle();
  for (; world.now < 100 * kSecond; world.now += 100 * kMillisecond) {
    world.server->wake(world.now);
    world.client->wake(world.now);
    world.settle();
  }
  CHECK(world.server->sessions() == 1);
  CHECK(world.client->state() == kv::StreamClient::State::kOpen);
  CHECK(world.server->counts().datagrams < 130);  // one a second
  world.server->push(world.now, "", bytes_of("b"));
  world.settle();
  CHECK(world.text == "ab");
}

TEST_CASE("addresses") {
  CHECK(kv::parse_host_port("[::1]:80", "x").host == "::1");
  CHECK(kv::parse_host_port(":80", "x").host.empty());
  for (const char* bad : {"", "80", "a:", "a:b", "::1:80", "a:70000", "a:-1"}) {
    CHECK_THROWS_AS(kv::parse_host_port(bad, "x"), kv::Error);
  }
  CHECK(kv::is_loopback(kv::UdpSocket::bind({"127.0.0.1", "0"}).local()));
  CHECK_FALSE(kv::is_loopback(kv::UdpSocket::bind({"0.0.0.0", "0"}).local()));
}
