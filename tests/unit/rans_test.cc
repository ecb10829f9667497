#include "kv/kernels/rans.hh"

#include "rans_samples.hh"

#include <doctest/doctest.h>

#include <memory>
#include <stdexcept>
#include <string>

namespace {

using kv::RansTarget;
using kv::samples::below;
using kv::samples::Message;
using kv::samples::Random;
using kv::samples::random_message;
using kv::samples::random_tables;
using kv::samples::Tables;
using Bytes = std::vector<std::byte>;

std::vector<RansTarget> targets() {
  std::vector<RansTarget> all;
  for (const auto target : {RansTarget::kScalar, RansTarget::kAvx2, RansTarget::kAvx512}) {
    if (kv::rans_has_target(target)) all.push_back(target);
  }
  return all;
}

std::vector<Bytes> encode(const Tables& tables, const std::vector<Message>& messages,
                          RansTarget target) {
  std::vector<Bytes> streams(messages.size(), Bytes{std::byte{77}});
  std::vector<kv::RansEncodeJob> jobs;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    jobs.push_back({messages[i].steps, messages[i].values.data(), &streams[i]});
  }
  kv::rans_encode(tables.tables, jobs, target);
  CHECK(kv::rans_last_target() == target);
  for (Bytes& stream : streams) {
    CHECK(stream.front() == std::byte{77});  // appended
    stream.erase(stream.begin());
  }
  return streams;
}

// Decodes from and to allocations of exactly the right size, which ASan guards, with sentinels for
// builds without it.
struct Decoded {
  static constexpr std::size_t kGuard = 64;
  std::vector<std::unique_ptr<std::byte[]>> streams;
  std::vector<std::vector<std::int8_t>> values;
  std::vector<std::vector<std::uint32_t>> escapes;
  std::vector<kv::RansDecodeJob> jobs;
  bool all = false;

  Decoded(const Tables& tables, const std::vector<Message>& messages,
          const std::vector<Bytes>& from, RansTarget target) {
    for (std::size_t i = 0; i < messages.size(); ++i) {
      const Message& m = messages[i];
      streams.push_back(std::make_unique<std::byte[]>(from[i].size()));
      std::copy(from[i].begin(), from[i].end(), streams.back().get());
      values.emplace_back(m.decoded.size() + 2 * kGuard, std::int8_t{99});
      escapes.emplace_back(m.escapes.size() + 2, 99u);
      kv::RansDecodeJob job;
      job.stream = {streams.back().get(), from[i].size()};
      job.steps = m.steps;
      job.values = values.back().data() + kGuard;
      job.escapes = std::span(escapes.back()).subspan(1, m.escapes.size());
      jobs.push_back(job);
    }
    all = kv::rans_decode(tables.tables, jobs, target);
    CHECK(kv::rans_last_target() == target);
    bool each = true;
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      each = each && jobs[i].intact;
      const auto& v = values[i];
      bool guarded = escapes[i].front() == 99 && escapes[i].back() == 99;
      for (std::size_t k = 0; k < kGuard; ++k) guarded &= v[k] == 99 && v[v.size() - 1 - k] == 99;
      CHECK(guarded);
    }
    CHECK(all == each);
  }

  bool same(std::size_t i, const Message& m) const {
    return jobs[i].intact && jobs[i].escape_count == m.escapes.size() &&
           std::equal(m.decoded.begin(), m.decoded.end(), jobs[i].values) &&
           std::equal(m.escapes.begin(), m.escapes.end(), jobs[i].escapes.begin());
  }
};

// All targets write the scalar code's bytes, and read them.
void cross(const Tables& tables, const std::vector<Message>& messages) {
  const std::vector<Bytes> streams = encode(tables, messages, RansTarget::kScalar);
  for (const RansTarget target : targets()) {
    CAPTURE(kv::rans_target_name(target));
    CHECK(encode(tables, messages, target) == streams);
    const Decoded decoded(tables, messages, streams, target);
    CHECK(decoded.all);
    for (std::size_t i = 0; i < messages.size(); ++i) {
      CAPTURE(i);
      CHECK(decoded.same(i, messages[i]));
    }
  }
}

}  // namespace

TEST_CASE("the best target is one that is there") {
  CHECK(kv::rans_has_target(RansTarget::kScalar));
  CHECK(kv::rans_has_target(kv::rans_best_target()));
  CHECK(targets().back() == kv::rans_best_target());
  std::string names;
  for (const RansTarget target : targets()) names += std::string(" ") + rans_target_name(target);
  MESSAGE("targets of this machine:" << names);
  const RansTarget none{77};
  CHECK_THROWS_AS(static_cast<void>(kv::rans_decode(kv::RansTables({}), {}, none)),
                  std::invalid_argument);
}

TEST_CASE("the bytes of a small stream are those that kv(5) derives") {
  // Table 2048, 1024, 512, 512. Values -1, 0, 1, escape in lanes 0 to 3, twice. By hand: state
  // 65536 and frequency 2048 give (65536 / 2048 << 12) + 0 + 0 = 131072, and so on.
  const Tables tables({{2048, 1024, 512, 512}});
  Message m;
  m.steps = {{0, 4}, {0, 4}};
  for (int i = 0; i < 2; ++i) {
    m.values.insert(m.values.end(), {-1, 0, 1, 2});
    m.values.resize(m.values.size() + 28);
  }
  for (const RansTarget target : targets()) {
    const Bytes stream = encode(tables, {m}, target).front();
    CHECK(stream.size() == 128);
    const std::vector<std::uint32_t> states = {262144, 1058816, 4221952, 4226560, 65536};
    for (std::size_t lane = 0; lane < 32; ++lane) {
      std::uint32_t state = 0;
      for (int i = 3; i >= 0; --i) {
        state = state << 8 | std::to_integer<std::uint32_t>(stream[4 * lane + i]);
      }
      CHECK(state == states[std::min<std::size_t>(lane, 4)]);
    }
  }
}

TEST_CASE("every target reads and writes what the scalar code does") {
  Random random(1);
  for (int round = 0; round < 60; ++round) {
    CAPTURE(round);
    const Tables tables = random_tables(random, 1 + below(random, 20));
    std::vector<Message> messages;
    for (std::size_t jobs = 1 + below(random, 9); jobs > 0; --jobs) {
      kv::samples::Shape shape;
      shape.steps = below(random, 200);
      shape.run = 1 + below(random, 12);
      shape.partial = static_cast<unsigned>(below(random, 10));
      messages.push_back(random_message(random, tables, shape));
    }
    cross(tables, messages);
  }
}

TEST_CASE("tables of each size alone, and mixed at each step") {
  Random random(2);
  for (const std::initializer_list<std::size_t> sizes :
       {std::initializer_list<std::size_t>{4}, {8}, {16}, {32}, {4, 32}, {4, 8, 16, 32}}) {
    const Tables tables = random_tables(random, 50, sizes);
    for (const std::size_t run : {1u, 4u, 1000u}) {
      for (const unsigned partial : {0u, 1u}) {
        const kv::samples::Shape shape{.steps = 300, .run = run, .partial = partial};
        cross(tables, {random_message(random, tables, shape), random_message(random, tables, shape),
                       random_message(random, tables, shape), random_message(random, tables, shape),
                       random_message(random, tables, shape)});
      }
    }
  }
}

TEST_CASE("every frequency divides every kind of state") {
  // All frequencies that a table of four can have, each met in states all over the range.
  Random random(3);
  for (unsigned f = 1; f <= 4093; f += f < 130 || f > 3960 ? 1 : 7) {
    const auto rest = static_cast<std::uint16_t>(4096 - f - 2);
    const Tables tables(
        {{static_cast<std::uint16_t>(f), rest, 1, 1}, {1, static_cast<std::uint16_t>(f), 1, rest}});
    const kv::samples::Shape shape{.steps = 40, .run = 2, .partial = 0};
    cross(tables, {random_message(random, tables, shape), random_message(random, tables, shape)});
  }
}

TEST_CASE("nothing, one step, all escapes, and values at the ends of a byte") {
  Random random(4);
  const Tables tables = random_tables(random, 8);
  cross(tables, {});
  cross(tables, {Message{}});
  CHECK(encode(tables, {Message{}}, kv::rans_best_target()).front().size() == 128);
  for (std::size_t lanes = 1; lanes <= kv::kRansLanes; ++lanes) {
    Message m = random_message(random, tables, {.steps = 1, .partial = 0});
    m.steps[0].lanes = static_cast<std::uint16_t>(lanes);
    std::fill(m.values.begin() + lanes, m.values.end(), std::int8_t{55});  // not looked at
    std::fill(m.decoded.begin() + lanes, m.decoded.end(), std::int8_t{0});
    std::erase_if(m.escapes, [&](auto position) { return position >= lanes; });
    cross(tables, {m});
  }
  cross(tables,
        {random_message(random, tables, {.steps = 333, .partial = 3, .all_escapes = true})});
}

TEST_CASE("jobs of very unequal lengths") {
  Random random(5);
  const Tables tables = random_tables(random, 30);
  std::vector<Message> messages;
  for (const std::size_t steps : {1000u, 0u, 1u, 1u, 2u, 500u, 0u, 3u, 3u, 3u, 700u, 1u}) {
    messages.push_back(random_message(random, tables, {.steps = steps, .run = 5}));
  }
  cross(tables, messages);
}

TEST_CASE("cut, longer and flipped streams are reported, beside whole ones") {
  Random random(6);
  for (int round = 0; round < 12; ++round) {
    const Tables tables = random_tables(random, 6);
    std::vector<Message> messages;
    for (int i = 0; i < 5; ++i) {
      const std::size_t steps = round < 4 ? below(random, 4) : below(random, 60);
      messages.push_back(random_message(random, tables, {.steps = steps, .run = 3}));
    }
    const std::vector<Bytes> whole = encode(tables, messages, RansTarget::kScalar);
    const auto refused = [&](const std::vector<Bytes>& streams, std::size_t damaged) {
      for (const RansTarget target : targets()) {
        CAPTURE(kv::rans_target_name(target));
        const Decoded decoded(tables, messages, streams, target);
        CHECK_FALSE(decoded.all);
        for (std::size_t i = 0; i < messages.size(); ++i) {
          CHECK((i == damaged ? !decoded.jobs[i].intact : decoded.same(i, messages[i])));
        }
      }
    };
    for (std::size_t damaged = 0; damaged < whole.size(); ++damaged) {
      for (std::size_t size = 0; size < whole[damaged].size(); ++size) {
        std::vector<Bytes> streams = whole;
        streams[damaged].resize(size);
        refused(streams, damaged);
      }
      for (const std::size_t more : {1u, 2u, 64u, 128u}) {
        std::vector<Bytes> streams = whole;
        streams[damaged].resize(whole[damaged].size() + more);
        refused(streams, damaged);
      }
      std::vector<Bytes> streams = whole;
      streams[damaged][2] = streams[damaged][3] = std::byte{0};  // a state below 2^16
      refused(streams, damaged);
    }
  }
}

TEST_CASE("a flipped bit is damage or another message, and all targets agree which") {
  // Coding is a bijection: other bytes end in another state or are the true stream of other values,
  // which a hash around the stream has to find out. Those values must code to the flipped bytes.
  Random random(7);
  const Tables tables = random_tables(random, 6);
  std::vector<Message> messages = {random_message(random, tables, {.steps = 25, .run = 3})};
  messages.front().escapes.resize(25 * kv::kRansLanes);  // room for any
  const Bytes whole = encode(tables, messages, RansTarget::kScalar).front();
  std::size_t intact = 0;
  for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    Bytes bytes = whole;
    bytes[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
    const Decoded scalar(tables, messages, {bytes}, RansTarget::kScalar);
    for (const RansTarget target : targets()) {
      const Decoded other(tables, messages, {bytes}, target);
      CHECK(other.all == scalar.all);
      if (scalar.all) CHECK(other.values == scalar.values);
    }
    if (scalar.all) {
      ++intact;
      Message again = messages.front();
      again.values.assign(scalar.jobs[0].values, scalar.jobs[0].values + again.values.size());
      CHECK(encode(tables, {again}, RansTarget::kScalar).front() == bytes);
      CHECK(again.values != messages.front().values);
    }
  }
  CHECK(intact < whole.size());  // an eighth of the flips; mostly a fiftieth
}

TEST_CASE("hostile steps and too little room for escapes are damage to the decoder") {
  Random random(8);
  const Tables tables = random_tables(random, 3);
  const Message good = random_message(random, tables, {.steps = 50, .all_escapes = true});
  const Bytes stream = encode(tables, {good}, RansTarget::kScalar).front();
  for (const RansTarget target : targets()) {
    for (const kv::RansStep bad : {kv::RansStep{3, 32}, {65535, 32}, {0, 0}, {0, 33}, {0, 65535}}) {
      for (const std::size_t where : {0u, 20u, 49u}) {
        Message m = good;
        m.steps[where] = bad;
        CHECK_FALSE(Decoded(tables, {m}, {stream}, target).all);
        Bytes out;
        const kv::RansEncodeJob job{m.steps, m.values.data(), &out};
        CHECK_THROWS_AS(kv::rans_encode(tables.tables, {&job, 1}, target), std::invalid_argument);
        CHECK(out.empty());
      }
    }
    for (const std::size_t room : {0u, 1u, 49u}) {
      Message m = good;
      m.escapes.resize(room);
      CHECK_FALSE(Decoded(tables, {m}, {stream}, target).all);
    }
  }
}

TEST_CASE("tables that are none are refused") {
  using Row = std::vector<std::uint16_t>;
  const auto refused = [](const std::vector<Row>& rows) {
    CHECK_THROWS_AS(Tables::build(rows), std::invalid_argument);
  };
  const Row good = {1024, 1024, 1024, 1024};
  refused({good, {}});
  refused({good, {4096}});
  refused({good, {2048, 2048}});
  refused({good, Row(5, 1)});
  refused({good, Row(64, 64)});
  refused({good, {4096, 0, 0, 0}});
  refused({good, {1024, 1024, 1024, 1023}});
  refused({good, {1024, 1024, 1024, 1025}});
  refused({good, {65535, 1, 4095, 1}});  // 4096 modulo 2^16
  refused(std::vector<Row>(1025, good));
  const Tables most(std::vector<Row>(1024, good));
  CHECK(most.tables.size() == 1024);
  CHECK(most.tables.symbols(1023) == 4);
  CHECK_THROWS_AS(static_cast<void>(most.tables.symbols(1024)), std::invalid_argument);
}
