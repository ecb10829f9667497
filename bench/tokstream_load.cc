// tokstream_load PORT STREAMS RATE SECONDS LOSS [KEY]: the load of bench/tokstream_load.sh and its
// test. Writes STREAMS streams of RATE tokens a second each as JSON lines to standard output, which
// is tokstream-send's input, and receives all of them from its PORT, each by a StreamClient, losing
// LOSS of the packets both ways. Every byte is compared. Then says as JSON on standard error how
// long tokens took from when they were due, and how many gaps were over 200 ms.
#include "kv/base/error.hh"
#include "kv/stream/random.hh"
#include "kv/transport/client.hh"
#include "kv/transport/udp.hh"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <numeric>

namespace {

using kv::kMillisecond;
using kv::kSecond;
using kv::TimeNs;

constexpr std::size_t kTokenBytes = 5, kPerSocket = 100;
constexpr TimeNs kJoining = 2 * kSecond, kThreshold = 200 * kMillisecond;
constexpr TimeNs kPoll = 2 * kMillisecond;  // how often timers are looked at

std::string token_of(std::size_t stream, std::uint64_t number) {
  constexpr char kLetters[] = "abcdefghijklmnopqrstuvwxyz ABCDE";
  std::uint64_t value = kv::mix64((std::uint64_t{stream} << 32) + number);
  std::string token;
  for (std::size_t i = 0; i < kTokenBytes; ++i, value >>= 5) token += kLetters[value & 31];
  return token;
}

class Load {
 public:
  Load(const std::string& port, std::size_t streams, double rate, double seconds, double loss,
       const kv::SharedKey& key)
      : streams_(streams),
        interval_(static_cast<TimeNs>(1e9 / rate)),
        tokens_(static_cast<std::uint64_t>(rate * seconds)),
        loss_(loss),
        random_(1),
        shown_(streams),
        shown_at_(streams) {
    for (std::size_t i = 0; i < streams; i += kPerSocket) {
      sockets_.push_back(kv::UdpSocket::connect({"127.0.0.1", port}));
      poller_.add(sockets_.back().fd());
    }
    options_.key = key;
    start_ = kv::clock_now() + kJoining;
    fcntl(STDOUT_FILENO, F_SETFL, fcntl(STDOUT_FILENO, F_GETFL) | O_NONBLOCK);
    fcntl(STDOUT_FILENO, F_SETPIPE_SZ, 1 << 20);
  }

  void run() {
    TimeNs looked = 0;
    while (ended_ < streams_) {
      now_ = kv::clock_now();
      join();
      make();
      write_out();
      if (now_ - looked >= kPoll) {
        looked = now_;
        for (std::size_t i = 0; i < clients_.size(); ++i) {
          if (clients_[i]->wake_at() > now_) continue;
          clients_[i]->wake(now_);
          judge(i);
        }
      }
      for (kv::UdpSocket& socket : sockets_) socket.flush();
      receive(now_ + kMillisecond);
    }
  }

  void print() {
    std::sort(delays_.begin(), delays_.end());
    const auto at = [&](double share) {
      return delays_[static_cast<std::size_t>(share * static_cast<double>(delays_.size() - 1))] /
             1e6;
    };
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const double cpu = static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                       1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    fmt::print(stderr,
               "{{\"streams\":{},\"tokens\":{},\"delay_ms\":{{\"p50\":{:.2f},\"p99\":{:.2f},"
               "\"p999\":{:.2f},\"max\":{:.2f}}},\"stalls\":{},\"stalled_share\":{:.6f},"
               "\"written_late_ms\":{:.2f},\"load_cpu_s\":{:.2f}}}\n",
               streams_, delays_.size(), at(0.5), at(0.99), at(0.999), at(1), stalls_,
               static_cast<double>(stalled_) /
                   (static_cast<double>(streams_ * tokens_) * static_cast<double>(interval_)),
               static_cast<double>(written_late_) / 1e6, cpu);
  }

 private:
  // All streams' tokens in the order of their times; the streams are spread over an interval.
  TimeNs due(std::size_t stream, std::uint64_t number) const {
    return start_ + static_cast<TimeNs>(number) * interval_ +
           interval_ * static_cast<TimeNs>(stream) / static_cast<TimeNs>(streams_);
  }

  // The clients ask one after another, within half the time before the first token.
  void join() {
    while (clients_.size() < streams_ && now_ >= start_ - kJoining +
                                                     kJoining / 2 *
                                                         static_cast<TimeNs>(clients_.size()) /
                                                         static_cast<TimeNs>(streams_)) {
      const std::size_t i = clients_.size();
      options_.stream = fmt::format("s{}", i);
      kv::UdpSocket& socket = sockets_[i / kPerSocket];
      clients_.push_back(std::make_unique<kv::StreamClient>(
          now_, options_,
          [this, &socket](kv::ByteView datagram) {
            if (!random_.chance(loss_)) socket.send({}, datagram);
          },
          [this, i](kv::ByteView bytes) { show(i, bytes); }));
      by_session_[clients_[i]->session()] = i;
    }
  }

  void make() {
    for (; made_ < streams_ * (tokens_ + 1); ++made_) {
      const std::size_t stream = made_ % streams_;
      const std::uint64_t number = made_ / streams_;
      if (due(stream, number) > now_) return;
      out_ += number == tokens_ ? fmt::format("{{\"stream\":\"s{}\",\"end\":true}}\n", stream)
                                : fmt::format("{{\"stream\":\"s{}\",\"text\":\"{}\"}}\n", stream,
                                              token_of(stream, number));
    }
    if (out_.empty() && !closed_) {
      close(STDOUT_FILENO);
      closed_ = true;
    }
  }

  void write_out() {
    if (out_.empty()) return;
    const ssize_t done = write(STDOUT_FILENO, out_.data(), out_.size());
    if (done > 0) out_.erase(0, static_cast<std::size_t>(done));
    if (done < 0 && errno != EAGAIN) kv::fail_errno("write -");
    // The sender does not take what is due: the oldest that waits is about so old.
    if (!out_.empty()) {
      const auto lines = static_cast<TimeNs>(out_.size() / 34);
      written_late_ = std::max(written_late_, lines * interval_ / static_cast<TimeNs>(streams_));
    }
  }

  void receive(TimeNs until) {
    const std::vector<int> ready = poller_.wait(until);
    now_ = kv::clock_now();
    for (kv::UdpSocket& socket : sockets_) {
      if (std::find(ready.begin(), ready.end(), socket.fd()) == ready.end()) continue;
      socket.receive(256, [&](const kv::Peer&, kv::ByteView datagram) {
        kv::Envelope envelope;
        if (random_.chance(loss_) ||
            !kv::parse_envelope(datagram, options_.key.there(), envelope)) {
          return;
        }
        const auto at = by_session_.find(envelope.session);
        if (at == by_session_.end()) return;
        clients_[at->second]->receive(now_, datagram);
        judge(at->second);
      });
    }
  }

  void show(std::size_t stream, kv::ByteView bytes) {
    for (const std::byte byte : bytes) {
      const std::uint64_t number = shown_[stream] / kTokenBytes;
      const std::size_t letter = shown_[stream]++ % kTokenBytes;
      if (static_cast<std::byte>(token_of(stream, number)[letter]) != byte) {
        kv::fail_input("stream {}: another text at byte {}", stream, shown_[stream] - 1);
      }
      if (letter + 1 < kTokenBytes) continue;
      delays_.push_back(static_cast<double>(now_ - due(stream, number)));
      const TimeNs gap = now_ - shown_at_[stream];
      if (number > 0 && gap > kThreshold) {
        ++stalls_;
        stalled_ += gap;
      }
      shown_at_[stream] = now_;
    }
  }

  // Clients that are through, and those that have a new session.
  void judge(std::size_t i) {
    using State = kv::StreamClient::State;
    kv::StreamClient& client = *clients_[i];
    if (client.state() == State::kRefused || client.state() == State::kLost) {
      kv::fail(kv::ErrorKind::kIo, "stream {}: refused or lost", i);
    }
    by_session_.try_emplace(client.session(), i);
    if (client.state() != State::kEnded || shown_at_[i] == kv::kNever) return;
    if (shown_[i] != tokens_ * kTokenBytes) kv::fail_input("stream {}: not all of it", i);
    shown_at_[i] = kv::kNever;
    ++ended_;
  }

  std::size_t streams_;
  TimeNs interval_;
  std::uint64_t tokens_;  // a stream
  double loss_;
  kv::Random random_;
  kv::ClientOptions options_;
  std::vector<kv::UdpSocket> sockets_;
  kv::Poller poller_;
  std::vector<std::unique_ptr<kv::StreamClient>> clients_;
  std::unordered_map<std::uint32_t, std::size_t> by_session_;
  std::vector<std::uint64_t> shown_;  // bytes
  std::vector<TimeNs> shown_at_;      // kNever: it has ended
  std::vector<double> delays_;
  std::string out_;
  bool closed_ = false;
  std::uint64_t made_ = 0, stalls_ = 0;
  std::size_t ended_ = 0;
  TimeNs now_ = 0, start_ = 0, stalled_ = 0, written_late_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc < 6) kv::fail_usage("give PORT STREAMS RATE SECONDS LOSS [KEY]");
    kv::SharedKey key;
    if (argc > 6) {
      kv::Bytes secret = kv::Input::open(argv[6]).read_all(1 << 16);
      while (!secret.empty() && secret.back() == std::byte{'\n'}) secret.pop_back();
      key = kv::SharedKey(secret);
    }
    Load load(argv[1], std::stoul(argv[2]), std::stod(argv[3]), std::stod(argv[4]),
              std::stod(argv[5]), key);
    load.run();
    load.print();
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "tokstream_load: {}\n", error.what());
    return 3;
  }
}
