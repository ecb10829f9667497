#pragma once
// UDP sockets, and waiting for them: what turns the ends of transport into programs.

#include "kv/base/file.hh"
#include "kv/stream/time.hh"
#include "kv/transport/server.hh"

namespace kv {

TimeNs clock_now();  // monotonic

// "HOST:PORT", "[V6]:PORT" or ":PORT". Throws kUsage.
struct HostPort {
  std::string host, port;
};
HostPort parse_host_port(const std::string& text, const char* option);

// Of an address as the socket has it.
bool is_loopback(const Peer& peer);
std::string peer_text(const Peer& peer);  // "127.0.0.1:4000"

class UdpSocket {
 public:
  // Listens; an empty host is every address, IPv4 and IPv6. Throws kIo.
  static UdpSocket bind(const HostPort& at);
  // Talks to one address only. Throws kIo, also where there is no such host.
  static UdpSocket connect(const HostPort& to);

  int fd() const { return fd_.number(); }
  const Peer& local() const { return local_; }    // with the port that was chosen
  const Peer& remote() const { return remote_; }  // of connect()

  // Queues a datagram, and sends the queue when it is long; flush() sends the rest. One that the
  // system does not take is lost, as the network may lose it.
  void send(const Peer& to, ByteView datagram);
  void flush();
  // Calls `take` for each datagram that is there, `most` at most. Larger ones than 2 KiB are cut,
  // and so dropped by their seal.
  void receive(std::size_t most, const std::function<void(const Peer&, ByteView)>& take);

 private:
  UdpSocket(Fd fd, bool connected);
  struct Queue;
  struct QueueDelete {
    void operator()(Queue* queue) const;
  };
  Fd fd_;
  bool connected_ = false;
  Peer local_, remote_;
  std::unique_ptr<Queue, QueueDelete> queue_;
};

// Waits for descriptors, or until a time.
class Poller {
 public:
  Poller();
  // Regular files are always ready.
  void add(int fd);
  void remove(int fd);
  // Which are ready now or by `until`.
  const std::vector<int>& wait(TimeNs until);

 private:
  Fd epoll_;
  std::vector<int> always_, ready_;
};

}  // namespace kv
