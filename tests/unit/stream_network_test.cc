// The models of networks do what their parameters say, and files of measured ones are read or
// refused.
#include "kv/stream/link.hh"
#include "kv/stream/token_source.hh"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

namespace {

using kv::kMillisecond;
using kv::TimeNs;

kv::Input input_of(const std::string& text) {
  const int fd = memfd_create("trace", 0);
  REQUIRE(write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  REQUIRE(lseek(fd, 0, SEEK_SET) == 0);
  const kv::Fd keep(fd);
  return kv::Input::open(fmt::format("/proc/self/fd/{}", fd));
}

template <typename Read>
std::string refusal(Read read, const std::string& text) {
  try {
    read(input_of(text));
  } catch (const kv::Error& error) {
    CHECK(error.kind() == kv::ErrorKind::kInput);
    return error.what();
  }
  return "accepted";
}
bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// Share lost of packets every `every`, over many paths.
double lost_share(const std::string& text, TimeNs every, int paths = 200, int packets = 5000) {
  const kv::LossSpec spec = kv::parse_loss(text);
  int lost = 0;
  for (int path = 0; path < paths; ++path) {
    kv::Loss loss(spec, static_cast<std::uint64_t>(path), 0);
    for (int i = 0; i < packets; ++i) lost += loss.lost(i * every) ? 1 : 0;
  }
  return static_cast<double>(lost) / paths / packets;
}

}  // namespace

TEST_CASE("loss is as much as it says") {
  CHECK(lost_share("none", kMillisecond) == 0);
  CHECK(lost_share("iid:0.05", kMillisecond) == doctest::Approx(0.05).epsilon(0.02));
  // Bad for p / (p + r) of packets.
  const double bad = 0.068 / (0.068 + 0.852);
  CHECK(lost_share("ge:0.068,0.852,0.04,0.5", kMillisecond) ==
        doctest::Approx(bad * 0.5 + (1 - bad) * 0.04).epsilon(0.02));
  for (const TimeNs every : {kMillisecond, 50 * kMillisecond}) {
    CHECK(lost_share("bursts:100,0.05", every, 400) == doctest::Approx(0.05).epsilon(0.1));
    CHECK(lost_share("bursts:500,0.13,0.8", every, 1500) == doctest::Approx(0.13).epsilon(0.1));
  }
}

TEST_CASE("outages have their mean length and hit both directions") {
  const kv::LossSpec spec = kv::parse_loss("bursts:500,0.2");
  TimeNs out = 0;
  int outages = 0, different = 0;
  for (std::uint64_t path = 0; path < 200; ++path) {
    kv::Loss there(spec, path, 0), back(spec, path, 1);
    bool before = true;
    for (TimeNs now = 0; now < 60 * kv::kSecond; now += kMillisecond) {
      const bool lost = there.lost(now);
      different += lost != back.lost(now) ? 1 : 0;
      out += lost ? kMillisecond : 0;
      outages += lost && !before ? 1 : 0;
      before = lost;
    }
  }
  CHECK(different == 0);
  CHECK(static_cast<double>(out) / outages / 1e6 == doctest::Approx(500).epsilon(0.1));
}

TEST_CASE("what is no loss") {
  for (const char* bad :
       {"", "iid", "iid:", "iid:1.1", "iid:-0.1", "iid:nan", "iid:0.1,0.2", "ge:0.1,0.2",
        "bursts:0,0.1", "bursts:100", "bursts:100,0.9,0.8", "none:1", "poisson:1"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(kv::parse_loss(bad), kv::Error);
  }
}

TEST_CASE("Mahimahi: a packet leaves with its last byte, unused opportunities are gone") {
  const auto trace = kv::read_capacity(input_of("1\n1\n5\n10\n"));
  CHECK(trace.length == 10 * kMillisecond);
  kv::Capacity capacity(trace, 10'000);
  // What the file has at its end is there at the beginning of each round, and so at 0.
  CHECK(capacity.send(0, 1504) == 0);
  CHECK(capacity.send(0, 3008) == 1 * kMillisecond);
  CHECK(capacity.send(0, 100) == 5 * kMillisecond);
  CHECK(capacity.send(0, 1404) == 5 * kMillisecond);
  CHECK(capacity.send(0, 1) == 10 * kMillisecond);
  CHECK(capacity.send(14 * kMillisecond, 1504) == 15 * kMillisecond);
  CHECK(capacity.send(16 * kMillisecond, 1504) == 20 * kMillisecond);
}

TEST_CASE("bandwidth: as long as the bytes take, and the queue has an end") {
  const auto trace = kv::read_capacity(input_of("0 0.8\n1\t0\n2 1.6\n"));
  CHECK(trace.length == 3 * kv::kSecond);
  kv::Capacity capacity(trace, 50'000);
  CHECK(capacity.send(0, 10'000) == 100 * kMillisecond);  // 100 kB a second
  CHECK(capacity.send(0, 10'000) == 200 * kMillisecond);
  CHECK_FALSE(capacity.send(0, 40'000).has_value());
  CHECK(capacity.send(950 * kMillisecond, 10'000) == 2 * kv::kSecond + 25 * kMillisecond);
  // Again from its beginning.
  CHECK(capacity.send(3 * kv::kSecond, 10'000) == 3 * kv::kSecond + 100 * kMillisecond);
}

TEST_CASE("delay, order and overtaking") {
  kv::LinkOptions options;
  options.delay = 30 * kMillisecond;
  kv::Link plain(options, 1, 0);
  CHECK(plain.send(5, 100) == 30 * kMillisecond + 5);
  options.jitter = 20 * kMillisecond;
  kv::Link jittery(options, 1, 0);
  TimeNs last = 0, sum = 0;
  int n = 0;
  for (TimeNs now = 0; now < 1000 * kv::kSecond; now += kv::kSecond, ++n) {
    const TimeNs at = *jittery.send(now, 100);
    CHECK(at >= last);
    last = at;
    sum += at - now;
  }
  CHECK(static_cast<double>(sum) / n / 1e6 == doctest::Approx(50).epsilon(0.1));
  options.jitter = 0;
  options.reorder = 0.25;
  kv::Link shuffled(options, 1, 0);
  int late = 0;
  for (int i = 0; i < 10000; ++i) {
    const TimeNs now = i * kMillisecond;
    const TimeNs at = *shuffled.send(now, 100);
    CHECK((at == now + 30 * kMillisecond || at == now + 50 * kMillisecond));
    late += at == now + 50 * kMillisecond ? 1 : 0;
  }
  CHECK(late == doctest::Approx(2500).epsilon(0.1));
}

TEST_CASE("files that are no traces say where") {
  CHECK(has(refusal(kv::read_capacity, ""), "lets nothing through"));
  CHECK(has(refusal(kv::read_capacity, "0\n"), "accepted"));
  CHECK(has(refusal(kv::read_capacity, "5\n4\n"), "line 2: times do not ascend"));
  CHECK(has(refusal(kv::read_capacity, "5\n6 1\n"), "line 2: now one number and now two"));
  CHECK(has(refusal(kv::read_capacity, "0 0\n1 0\n"), "lets nothing through"));
  // A rate that holds for no time.
  CHECK(has(refusal(kv::read_capacity, "0 0.8\n0 0\n"), "less than a byte a second"));
  CHECK(has(refusal(kv::read_capacity, "0 1e99\n"), "line 1: no rate"));
  CHECK(has(refusal(kv::read_capacity, "x\n"), "line 1: no time"));
  CHECK(has(refusal(kv::read_windows, ""), "empty"));
  CHECK(has(refusal(kv::read_windows, "a,b\n1,2\n"), "line 1: no Starlink pings"));
  const std::string head = "timestamp_start,packet_loss,ping_avg,ping_best\n";
  CHECK(has(refusal(kv::read_windows, head), "no pings"));
  CHECK(has(refusal(kv::read_windows, head + "x,101,1,1\n"), "line 2: packet_loss"));
  CHECK(has(refusal(kv::read_windows, head + "x,1,1\n"), "line 2: not as many fields"));
  const auto windows = kv::read_windows(input_of(head + "x,4,60,50\nx,100,,\n"));
  REQUIRE(windows.size() == 2);
  CHECK(windows[0].loss == 0.04);
  CHECK(windows[0].one_way == 25 * kMillisecond);
  CHECK(windows[0].jitter == 5 * kMillisecond);
  CHECK(windows[1].loss == 1);
  CHECK(windows[1].one_way == 25 * kMillisecond);
  const auto ids = [](kv::Input input) {
    kv::read_token_trace(std::move(input), kv::Payload::kIds);
  };
  CHECK(has(refusal(ids, "{\"t_ns\":5,\"id\":1}\n{\"t_ns\":4,\"id\":1}\n"),
            "line 2: \"t_ns\" goes back"));
  CHECK(has(refusal(ids, "{\"id\":1}\n"), "line 1: no \"t_ns\""));
  CHECK(has(refusal(ids, "[]\n"), "line 1: no JSON object"));
  CHECK(has(refusal(ids, "\n"), "no tokens"));
}

TEST_CASE("tokens as kvgen writes them") {
  const std::string lines =
      "{\"t_ns\":1000,\"id\":300,\"text\":\"Hello\"}\n{\"t_ns\":2000,\"id\":5,\"text\":\"\"}\n"
      "{\"t_ns\":3000,\"id\":70000,\"text\":\"\xC3\xA9\"}\n";
  const auto ids = kv::read_token_trace(input_of(lines), kv::Payload::kIds);
  REQUIRE(ids.size() == 3);
  CHECK(ids[0].size_bytes == 2);
  CHECK(ids[1].size_bytes == 1);
  CHECK(ids[2].size_bytes == 3);
  const auto text = kv::read_token_trace(input_of(lines), kv::Payload::kText);
  REQUIRE(text.size() == 2);
  CHECK(text[1].at == 3000);
  CHECK(text[1].size_bytes == 2);
}

TEST_CASE("the measured networks of others are read") {
  const char* given = std::getenv("KVTOOLS_SHARED");
  const std::filesystem::path folder =
      given ? std::filesystem::path(given) / "data" / "traces" : std::filesystem::path(KV_TRACES);
  if (!std::filesystem::exists(folder)) {
    std::printf("NOT TESTED: no measured networks in %s (KVTOOLS_SHARED)\n", folder.c_str());
    return;
  }
  const auto open = [&](const char* name) { return kv::Input::open((folder / name).string()); };
  const auto starlink = kv::read_windows(open("starlink-ping.csv"));
  double loss = 0;
  for (const auto& window : starlink) loss += window.loss;
  CHECK(starlink.size() == 900);
  CHECK(100 * loss / 900 == doctest::Approx(2.327).epsilon(0.001));
  const auto drive = kv::read_windows(open("5g-driving-download.csv"));
  CHECK(drive.size() == 70);
  double length = 0;
  for (const auto& window : drive) {
    length += static_cast<double>(window.length) / 1e9;
    CHECK(window.one_way > 10 * kMillisecond);
  }
  CHECK(length / 70 == doctest::Approx(14).epsilon(0.1));
  for (const char* name :
       {"Verizon-LTE-short.down", "ATT-LTE-driving-2016.up", "norway-bus-1.txt"}) {
    const auto trace = kv::read_capacity(open(name));
    CHECK(trace.length > 60 * kv::kSecond);
    CHECK(trace.steps.size() > 100);
  }
}
