#include "kv/base/hash.hh"
#include "kv/transport/programs.hh"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace kv {
namespace {

// Standard output, or a file that grows: what is in it was delivered, also after a kill.
class Sink {
 public:
  explicit Sink(const std::string& append) : name_(append.empty() ? "-" : append) {
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
      hash_.add(ByteView(part).first(static_cast<std::size_t>(got)));
      there_ += static_cast<std::uint64_t>(got);
    }
  }

  std::uint64_t there() const { return there_; }
  StreamHash take_hash() { return std::move(hash_); }  // of what was there
  void write(ByteView bytes) {
    while (!bytes.empty()) {
      const ssize_t done = ::write(fd_.number(), bytes.data(), bytes.size());
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) fail_errno("write " + name_);
      bytes = bytes.subspan(static_cast<std::size_t>(done));
    }
  }

 private:
  std::string name_;
  Fd fd_;
  StreamHash hash_;
  std::uint64_t there_ = 0;
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
  Sink sink(options.append);
  std::optional<UdpSocket> socket(UdpSocket::connect(options.from));
  const std::string place = peer_text(socket->remote());
  if (!options.client.key.there() && !is_loopback(socket->remote())) {
    fail_usage("{}: give --key FILE; without one only this machine is talked to", place);
  }
  ClientOptions client_options = options.client;
  client_options.offset = sink.there();
  StreamClient client(
      clock_now(), client_options, [&](ByteView datagram) { socket->send({}, datagram); },
      [&](ByteView bytes) { sink.write(bytes); }, sink.take_hash());
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
