#include "kv/stream/packet.hh"
#include "kv/stream/random.hh"

#include <doctest/doctest.h>

namespace {

kv::Bytes random_bytes(kv::Random& random, std::size_t size) {
  kv::Bytes bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next());
  return bytes;
}

// A number of 0 to `bits` bits, each length as likely.
std::uint64_t random_number(kv::Random& random, unsigned bits) {
  const auto length = static_cast<unsigned>(random.next() % (bits + 1));
  return length == 0 ? 0 : random.next() >> (64 - length);
}

kv::DataPacket any_data(kv::Random& random) {
  kv::DataPacket packet;
  packet.offset = random_number(random, 61);
  packet.bytes = random_bytes(random, 1 + random.next() % 60);
  if (random.chance(0.3)) packet.fin = random.next();
  if (packet.fin && random.chance(0.3)) packet.bytes.clear();
  if (random.chance(0.5)) {
    packet.unit = 64 + random_number(random, 60);
    for (std::uint64_t i = random.next() % 5; i > 0; --i) {
      kv::Repair repair;
      repair.count = static_cast<std::uint32_t>(1 + random.next() % 64);
      repair.first = *packet.unit - repair.count;
      repair.key = static_cast<std::uint32_t>(random.next() & 0xFFFF);
      repair.symbol = random_bytes(random, 2 + random.next() % 20);
      packet.repairs.push_back(repair);
    }
  }
  return packet;
}

kv::AckPacket any_ack(kv::Random& random) {
  kv::AckPacket packet;
  packet.received = random_number(random, 60);
  packet.whole = random.chance(0.2);
  packet.echo = random_number(random, 62);
  packet.delay_us = static_cast<std::uint32_t>(random_number(random, 25));
  for (std::uint64_t i = random.next() % (kv::kMaxAckRanges + 1); i > 0; --i) {
    const std::uint64_t begin = packet.received + 1 + random_number(random, 40);
    packet.ranges.push_back({begin, begin + 1 + random_number(random, 40)});
  }
  return packet;
}

}  // namespace

TEST_CASE("what is encoded is parsed again, in the size that was told") {
  kv::Random random(1);
  for (int i = 0; i < 20000; ++i) {
    const kv::DataPacket data = any_data(random);
    kv::Bytes bytes;
    kv::encode_data(data, 1, bytes);
    CHECK(bytes.size() == kv::data_size_bytes(data));
    kv::DataPacket back;
    REQUIRE(kv::parse_data(bytes, back));
    REQUIRE(back == data);

    const kv::AckPacket ack = any_ack(random);
    bytes.clear();
    kv::encode_ack(ack, bytes);
    CHECK(bytes.size() == kv::ack_size_bytes(ack));
    kv::AckPacket ack_back;
    REQUIRE(kv::parse_ack(bytes, ack_back));
    REQUIRE(ack_back == ack);
  }
}

TEST_CASE("padding hides all lengths but the multiple") {
  for (std::size_t size = 1; size <= 40; ++size) {
    kv::DataPacket packet;
    packet.bytes.resize(size, std::byte{'x'});
    kv::Bytes bytes;
    kv::encode_data(packet, 16, bytes);
    CHECK(bytes.size() == 2 + 2 + (size + 15) / 16 * 16);
    kv::DataPacket back;
    REQUIRE(kv::parse_data(bytes, back));
    CHECK(back == packet);
    // What hides must be zeros: nobody else's channel.
    if (size % 16 == 0) continue;
    bytes[4] = std::byte{1};
    CHECK_FALSE(kv::parse_data(bytes, back));
  }
}

TEST_CASE("a packet has one encoding") {
  // Whatever parses is what encode gives, byte for byte: no second form of a number or a flag.
  kv::Random random(2);
  int sound = 0;
  for (int i = 0; i < 200000; ++i) {
    kv::Bytes bytes;
    if (random.chance(0.5)) {
      kv::encode_data(any_data(random), 1, bytes);
    } else {
      kv::encode_ack(any_ack(random), bytes);
    }
    bytes[random.next() % bytes.size()] ^= static_cast<std::byte>(1 << random.next() % 8);
    if (random.chance(0.1)) bytes.resize(random.next() % bytes.size());
    kv::DataPacket data;
    kv::Bytes again;
    if (kv::parse_data(bytes, data) && (std::to_integer<int>(bytes[0]) & 2) == 0) {
      kv::encode_data(data, 1, again);
      REQUIRE(again == bytes);
      ++sound;
    }
    kv::AckPacket ack;
    again.clear();
    if (kv::parse_ack(bytes, ack)) {
      kv::encode_ack(ack, again);
      REQUIRE(again == bytes);
      ++sound;
    }
  }
  CHECK(sound > 1000);
}

TEST_CASE("every truncation of an answer is refused") {
  kv::Random random(3);
  for (int i = 0; i < 500; ++i) {
    kv::Bytes bytes;
    kv::encode_ack(any_ack(random), bytes);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      kv::AckPacket ack;
      CHECK_FALSE(kv::parse_ack(kv::ByteView(bytes).first(size), ack));
    }
    bytes.push_back(std::byte{0});
    kv::AckPacket ack;
    CHECK_FALSE(kv::parse_ack(bytes, ack));
  }
}

TEST_CASE("what the grammar does not have") {
  const auto refused = [](std::initializer_list<int> values) {
    kv::Bytes bytes;
    for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
    kv::DataPacket data;
    return !kv::parse_data(bytes, data);
  };
  CHECK(refused({}));
  CHECK(refused({0}));
  CHECK(refused({0}));                                  // no offset
  CHECK(refused({8, 5, 'a'}));                          // an unknown flag
  CHECK(refused({0, 0x85, 0, 'a'}));                    // 5 in two bytes
  CHECK(refused({1, 5, 1, 2, 3, 4, 5, 6}));             // half a digest
  CHECK(refused({2, 5, 3, 0, 0, 0}));                   // less padding than it says
  CHECK(refused({4, 5, 7, 1, 8, 1, 0, 2, 1, 1, 'a'}));  // unit 7 with a repair of unit -1
  CHECK(refused({4, 5, 7, 1, 2, 3, 0, 2, 1, 1, 'a'}));  // a repair of itself
  CHECK(refused({4, 5, 7, 1, 2, 1, 0, 1, 1, 'a'}));     // a symbol of one byte
  CHECK(refused({4, 5, 7, 5, 'a'}));                    // five repairs
  CHECK_FALSE(refused({4, 5, 7, 1, 2, 1, 0, 2, 1, 1, 'a'}));
  CHECK_FALSE(refused({0, 5, 'a'}));
  // The end of the stream lies below 2^62.
  CHECK(refused({0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x3F, 'a'}));
}
