// The CUDA twin against the scalar code. Built twice: with KV_CUDA_SHIM the kernels' own source
// runs on fibers of the CPU; without, on a GPU, and is skipped (125) where there is none.
#include "kv/kernels/rans_cuda.hh"

#include "rans_samples.hh"

#include <doctest/doctest.h>

#include <cstdio>
#include <stdexcept>

namespace {

namespace device = KV_CUDA_NAMESPACE;
using kv::samples::below;
using kv::samples::Message;
using kv::samples::Random;
using kv::samples::random_message;
using kv::samples::random_tables;
using kv::samples::Tables;
using Bytes = std::vector<std::byte>;

std::vector<Bytes> encode(const Tables& tables, const std::vector<Message>& messages,
                          bool on_device) {
  std::vector<Bytes> streams(messages.size());
  std::vector<kv::RansEncodeJob> jobs;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    jobs.push_back({messages[i].steps, messages[i].values.data(), &streams[i]});
  }
  if (on_device) {
    device::rans_encode_cuda(tables.tables, jobs);
  } else {
    kv::rans_encode(tables.tables, jobs, kv::RansTarget::kScalar);
  }
  return streams;
}

struct Decoded {
  std::vector<std::vector<std::int8_t>> values;
  std::vector<std::vector<std::uint32_t>> escapes;
  std::vector<kv::RansDecodeJob> jobs;
  bool all = false;

  Decoded(const Tables& tables, const std::vector<Message>& messages,
          const std::vector<Bytes>& streams, bool on_device) {
    for (std::size_t i = 0; i < messages.size(); ++i) {
      values.emplace_back(messages[i].decoded.size(), std::int8_t{99});
      escapes.emplace_back(messages[i].escapes.size());
      jobs.push_back({streams[i], messages[i].steps, values.back().data(), escapes.back()});
    }
    all = on_device ? device::rans_decode_cuda(tables.tables, jobs)
                    : kv::rans_decode(tables.tables, jobs, kv::RansTarget::kScalar);
  }
};

void cross(const Tables& tables, const std::vector<Message>& messages) {
  const std::vector<Bytes> streams = encode(tables, messages, false);
  CHECK(encode(tables, messages, true) == streams);
  const Decoded decoded(tables, messages, streams, true);
  CHECK(decoded.all);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    CAPTURE(i);
    CHECK(decoded.jobs[i].intact);
    CHECK(decoded.jobs[i].escape_count == messages[i].escapes.size());
    CHECK(decoded.values[i] == messages[i].decoded);
    CHECK(decoded.escapes[i] == messages[i].escapes);
  }
}

}  // namespace

TEST_CASE("the kernels write and read what the scalar code does") {
  Random random(11);
  for (int round = 0; round < 60; ++round) {
    CAPTURE(round);
    const Tables tables = random_tables(random, 1 + below(random, 20));
    std::vector<Message> messages;
    for (std::size_t jobs = below(random, 10); jobs > 0; --jobs) {
      messages.push_back(random_message(random, tables,
                                        {.steps = below(random, 40),
                                         .run = 1 + below(random, 6),
                                         .partial = static_cast<unsigned>(below(random, 5)),
                                         .all_escapes = below(random, 8) == 0}));
    }
    cross(tables, messages);
  }
}

TEST_CASE("damage is damage on the device too, beside whole streams") {
  Random random(12);
  const Tables tables = random_tables(random, 5);
  std::vector<Message> messages;
  for (int i = 0; i < 5; ++i) {
    messages.push_back(random_message(random, tables, {.steps = 1 + below(random, 12), .run = 3}));
  }
  const std::vector<Bytes> whole = encode(tables, messages, false);
  int damaged = 0;
  for (int round = 0; round < 60; ++round) {
    CAPTURE(round);
    std::vector<Bytes> streams = whole;
    Bytes& stream = streams[below(random, streams.size())];
    switch (round % 3) {
      case 0:
        stream.resize(below(random, stream.size()));
        break;
      case 1:
        stream.resize(stream.size() + 1 + below(random, 200));
        break;
      default:
        stream[below(random, stream.size())] ^= static_cast<std::byte>(1u << below(random, 8));
    }
    const Decoded host(tables, messages, streams, false);
    const Decoded on_device(tables, messages, streams, true);
    CHECK(on_device.all == host.all);
    damaged += !host.all;
    for (std::size_t i = 0; i < messages.size(); ++i) {
      CHECK(on_device.jobs[i].intact == host.jobs[i].intact);
      if (host.jobs[i].intact) CHECK(on_device.values[i] == host.values[i]);
    }
  }
  CHECK(damaged > 40);
}

TEST_CASE("steps that are none are refused") {
  Random random(13);
  const Tables tables = random_tables(random, 2);
  const Message good = random_message(random, tables, {.steps = 3});
  const std::vector<Bytes> streams = encode(tables, {good}, false);
  for (const kv::RansStep bad : {kv::RansStep{2, 32}, {0, 0}, {0, 33}}) {
    Message m = good;
    m.steps[1] = bad;
    CHECK_FALSE(Decoded(tables, {m}, streams, true).all);
    CHECK_THROWS_AS(encode(tables, {m}, true), std::invalid_argument);
  }
}

int main(int argc, char** argv) {
  if (!device::rans_has_cuda()) {
    std::fputs("SKIPPED: no CUDA device, or a build without CUDA\n", stderr);
    const Tables tables({{1024, 1024, 1024, 1024}});
    try {
      encode(tables, {Message{}}, true);
    } catch (const std::runtime_error& error) {
      std::fprintf(stderr, "and a call says so: %s\n", error.what());
      return 125;
    }
    std::fputs("but a call succeeds\n", stderr);
    return 1;
  }
  return doctest::Context(argc, argv).run();
}
