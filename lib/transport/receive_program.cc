#include "kv/base/hash.hh"
#include "kv/stream/varint.hh"
#include "kv/transport/programs.hh"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace kv {
namespace {

// Standard output, or a file that grows: what is in it was delivered, also after a kill. Ids stand
// a line each in it; a last line without its end does not count.
class Sink {
 public:
  Sink(const std::string& append, bool ids) : name_(append.empty() ? "-" : append), ids_(ids) {
    if (append.empty()) {
      fd_ = Fd(dup(STDOUT_FILENO));
      return;
    }
    fd_ = Fd(open(append.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_APPEND, 0666));
    if (fd_.number() < 0) fail_errno("open " + append);
    Bytes part(1 << 16);
    while (true) {
      const ssize_t got = read(fd_.number(), part.data(), part.size());
      if (got < 0) fail_errno("read " + append);
      if (got == 0) break;
      const ByteView bytes = ByteView(part).first(static_cast<std::size_t>(got));
      if (ids) {
        for (const std::byte byte : bytes) read_digit(static_cast<char>(byte));
      } else {
        count(bytes);
      }
    }
    if (ids && ftruncate(fd_.number(), static_cast<off_t>(lines_bytes_)) != 0) {
      fail_errno("truncate " + append);
    }
  }

  std::uint64_t there() const { return there_; }
  StreamHash take_hash() { return std::move(hash_); }  // of what was there
  void deliver(ByteView bytes) {
    if (!ids_) {
      write(bytes);
      return;
    }
    rest_.insert(rest_.end(), bytes.begin(), bytes.end());
    ByteView rest = rest_;
    std::string lines;
    for (std::uint64_t id = 0; take_varint(rest, kMaxVarint, id);) lines += fmt::format("{}\n", id);
    if (rest.size() > kLongestVarint) fail_input("what arrives is no ids");
    rest_.erase(rest_.begin(), rest_.end() - static_cast<std::ptrdiff_t>(rest.size()));
    write(as_bytes(lines));
  }

 private:
  void count(ByteView bytes) {
    hash_.add(bytes);
    there_ += bytes.size();
  }
  void read_digit(char digit) {
    ++file_bytes_;
    if (digit == '\n' && !line_.empty()) {
      const std::uint64_t id = std::stoull(line_);
      Bytes bytes;
      put_varint(bytes, id);
      count(bytes);
      line_.clear();
      lines_bytes_ = file_bytes_;
    } else if (digit >= '0' && digit <= '9' && line_.size() < 18) {
      line_ += digit;
    } else {
      fail_input("{}: byte {}: not ids, a line each", name_, file_bytes_ - 1);
    }
  }
  void write(ByteView bytes) {
    while (!bytes.empty()) {
      const ssize_t done = ::write(fd_.number(), bytes.data(), bytes.size());
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) fail_errno("write " + name_);
      bytes = bytes.subspan(static_cast<std::size_t>(done));
    }
  }

  static constexpr std::size_t kLongestVarint = 9;
  std::string name_, line_;
  bool ids_;
  Fd fd_;
  StreamHash hash_;
  Bytes rest_;  // the beginning of an id
  std::uint64_t there_ = 0, file_bytes_ = 0, lines_bytes_ = 0;
};

const char* text_of(CloseReason reason) {
  switch (reason) {
    case CloseReason::kNoStream:
      return "there is no such stream";
    case CloseReason::kBeyond:
      return "there is more here than in the stream; is it another one?";
    case CloseReason::kFull:
      return "the sender serves no more receivers";
    case CloseReason::kOther:
      return "what is here is not what was sent; was it another stream's beginning?";
    default:
      return "the sender ended the session";
  }
}

}  // namespace

ReceiveReport receive_stream(const ReceiveOptions& options) {
  Sink sink(options.append, options.ids);
  std::optional<UdpSocket> socket(UdpSocket::connect(options.from));
  const std::string place = peer_text(socket->remote());
  if (!options.client.key.there() && !is_loopback(socket->remote())) {
    fail_usage("{}: give --key FILE; without one only this machine is talked to", place);
  }
  ClientOptions client_options = options.client;
  client_options.offset = sink.there();
  const StreamClient* asks = nullptr;
  StreamClient client(
      clock_now(), client_options, [&](ByteView datagram) { socket->send({}, datagram); },
      [&](ByteView bytes) {
        if (asks->ids() != options.ids) {
          fail_input("{}: the stream is {}; {} --ids", place, asks->ids() ? "ids" : "text",
                     asks->ids() ? "give" : "leave out");
        }
        sink.deliver(bytes);
      },
      sink.take_hash());
  asks = &client;
  socket->flush();
  Poller poller;
  poller.add(socket->fd());
  TimeNs new_socket_at = 0;
  using State = StreamClient::State;
  while (client.state() != State::kEnded && client.state() != State::kRefused &&
         client.state() != State::kLost) {
    poller.wait(client.wake_at());
    const TimeNs now = clock_now();
    socket->receive(256, [&](const Peer&, ByteView datagram) { client.receive(now, datagram); });
    // This machine's address may have changed, or a middlebox forgot the old one.
    if (client.wants_socket(now) && now >= new_socket_at) {
      new_socket_at = now + 2 * kSecond;
      try {
        UdpSocket other = UdpSocket::connect(options.from);
        poller.remove(socket->fd());
        socket.emplace(std::move(other));
        poller.add(socket->fd());
      } catch (const Error&) {
        // No network at the moment: the old one will do until there is.
      }
    }
    client.wake(now);
    socket->flush();
  }
  if (client.state() == State::kLost) {
    fail(ErrorKind::kIo, "{}: nothing was heard for {} s; {} bytes are here{}", place,
         options.client.patience / kSecond, client.received_bytes(),
         options.append.empty() ? "" : ", and the same command goes on from there");
  }
  if (client.state() == State::kRefused) fail_input("{}: {}", place, text_of(client.reason()));
  return {client.counts(), client.received_bytes()};
}

}  // namespace kv
