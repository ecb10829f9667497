// linkemu's parts that need no namespace: packets in one direction, and which are for whom.
#include "kv/linkemu/direction.hh"
#include "kv/linkemu/link_end.hh"

#include <doctest/doctest.h>

#include <cstring>

namespace {

using kv::kMillisecond;
using kv::TimeNs;

kv::Bytes packet_of(std::uint64_t number, std::size_t size) {
  kv::Bytes packet(size);
  std::memcpy(packet.data(), &number, sizeof number);
  return packet;
}
std::uint64_t number_of(kv::ByteView packet) {
  std::uint64_t number = 0;
  std::memcpy(&number, packet.data(), sizeof number);
  return number;
}

}  // namespace

TEST_CASE("a direction delivers what the simulator's link does, when that does") {
  kv::LinkOptions options;
  options.loss = kv::parse_loss("bursts:100,0.2");
  options.jitter = 10 * kMillisecond;
  options.reorder = 0.2;
  kv::Direction direction(options, 7, 1);
  kv::Link link(options, 7, 1);
  std::vector<std::pair<TimeNs, std::uint64_t>> expected, found;
  for (std::uint64_t i = 0; i < 3000; ++i) {
    const TimeNs now = static_cast<TimeNs>(i) * kMillisecond;
    while (direction.next_at() <= now) {
      const TimeNs at = direction.next_at();
      found.emplace_back(at, number_of(direction.arrived(now)));
    }
    direction.take(now, packet_of(i, 100 + i % 900));
    if (const auto at = link.send(now, 100 + i % 900)) expected.emplace_back(*at, i);
  }
  while (direction.next_at() != kv::kNever) {
    const TimeNs at = direction.next_at();
    CHECK(direction.arrived(at - 1).empty());
    found.emplace_back(at, number_of(direction.arrived(at)));
  }
  std::sort(expected.begin(), expected.end());
  CHECK(found == expected);
  CHECK(direction.counts().packets == 3000);
  CHECK(direction.counts().lost == link.lost());
  CHECK(direction.counts().lost + found.size() == 3000);
  CHECK(direction.counts().lost > 300);
}

TEST_CASE("what is under way has a limit") {
  const kv::LinkOptions options;
  kv::Direction direction(options, 1, 0);
  for (std::uint64_t i = 0; i < 50'000; ++i) direction.take(0, packet_of(i, 1500));
  CHECK(direction.counts().dropped > 0);
  CHECK((50'000 - direction.counts().dropped) * 1500 <= 64 << 20);
  CHECK((50'001 - direction.counts().dropped) * 1500 > 64 << 20);
  // What was delivered makes room.
  for (int i = 0; i < 10; ++i) CHECK_FALSE(direction.arrived(kv::kSecond).empty());
  const std::uint64_t before = direction.counts().dropped;
  for (std::uint64_t i = 0; i < 10; ++i) direction.take(kv::kSecond, packet_of(i, 1500));
  CHECK(direction.counts().dropped == before);
}

TEST_CASE("only packets to the other end's own addresses are carried") {
  kv::Bytes v4(20), v6(40);
  v4[0] = std::byte{0x45};
  const unsigned char far4[] = {10, 77, 0, 2};
  std::memcpy(v4.data() + 16, far4, sizeof far4);
  CHECK(kv::is_for(v4, kv::Side::kFar));
  CHECK_FALSE(kv::is_for(v4, kv::Side::kNear));
  v4[19] = std::byte{255};  // a broadcast
  CHECK_FALSE(kv::is_for(v4, kv::Side::kFar));
  v6[0] = std::byte{0x60};
  v6[24] = std::byte{0xFD};
  v6[25] = std::byte{0x77};
  v6[39] = std::byte{1};
  CHECK(kv::is_for(v6, kv::Side::kNear));
  CHECK_FALSE(kv::is_for(v6, kv::Side::kFar));
  v6[24] = std::byte{0xFF};  // a group
  CHECK_FALSE(kv::is_for(v6, kv::Side::kNear));
  v6[24] = std::byte{0xFD};
  for (std::size_t size = 0; size < v6.size(); ++size) {
    CHECK_FALSE(kv::is_for(kv::ByteView(v6).first(size), kv::Side::kNear));
  }
  v6[0] = std::byte{0x50};
  CHECK_FALSE(kv::is_for(v6, kv::Side::kNear));
}
