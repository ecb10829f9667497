#include "kv/transport/udp.hh"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace kv {
namespace {

constexpr std::size_t kBatch = 64;
constexpr std::size_t kDatagram = 2048;
constexpr int kSocketBytes = 4 << 20;

// A Peer is the other end's sockaddr and, of a listening socket, a control message's payload that
// says which of our addresses it talks to, so that answers come from there: it would drop others.
const sockaddr* address_of(const Peer& peer) {
  return reinterpret_cast<const sockaddr*>(peer.data());
}
std::size_t address_size(const Peer& peer) {
  sa_family_t family = AF_UNSPEC;
  if (peer.size() >= sizeof family) std::memcpy(&family, peer.data(), sizeof family);
  const std::size_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  return std::min(size, peer.size());
}

using Control = std::array<char, CMSG_SPACE(sizeof(in6_pktinfo))>;

// Our address, out of what came with a datagram.
Peer local_of(msghdr& message) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_PKTINFO) {
      in_pktinfo info{};
      std::memcpy(&info, CMSG_DATA(part), sizeof info);
      info.ipi_spec_dst = info.ipi_addr;
      info.ipi_ifindex = 0;  // answers take whatever way there is
      return {reinterpret_cast<const char*>(&info), sizeof info};
    }
    if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO) {
      in6_pktinfo info{};
      std::memcpy(&info, CMSG_DATA(part), sizeof info);
      if (!IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr)) info.ipi6_ifindex = 0;
      return {reinterpret_cast<const char*>(&info), sizeof info};
    }
  }
  return {};
}

void set_local(const Peer& peer, msghdr& message, Control& control) {
  const std::size_t begin = address_size(peer), size = peer.size() - begin;
  if (size != sizeof(in_pktinfo) && size != sizeof(in6_pktinfo)) return;
  message.msg_control = control.data();
  message.msg_controllen = CMSG_SPACE(size);
  cmsghdr* part = CMSG_FIRSTHDR(&message);
  const bool v4 = size == sizeof(in_pktinfo);
  part->cmsg_level = v4 ? IPPROTO_IP : IPPROTO_IPV6;
  part->cmsg_type = v4 ? IP_PKTINFO : IPV6_PKTINFO;
  part->cmsg_len = CMSG_LEN(size);
  std::memcpy(CMSG_DATA(part), peer.data() + begin, size);
}

struct Addresses {
  addrinfo* first = nullptr;
  ~Addresses() {
    if (first != nullptr) freeaddrinfo(first);
  }
};

void resolve(const HostPort& at, bool passive, Addresses& found) {
  addrinfo hints{};
  hints.ai_family = passive && at.host.empty() ? AF_INET6 : AF_UNSPEC;
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
  const int code = getaddrinfo(at.host.empty() ? nullptr : at.host.c_str(), at.port.c_str(), &hints,
                               &found.first);
  if (code != 0) fail(ErrorKind::kIo, "{}:{}: {}", at.host, at.port, gai_strerror(code));
}

Peer name_of(int fd, int (*get)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (get(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return {};
  return {reinterpret_cast<const char*>(&storage), size};
}

// Addresses of IPv4 that an IPv6 socket shows as ::ffff:1.2.3.4.
const in_addr* inner_v4(const sockaddr_in6& address) {
  return IN6_IS_ADDR_V4MAPPED(&address.sin6_addr)
             ? reinterpret_cast<const in_addr*>(address.sin6_addr.s6_addr + 12)
             : nullptr;
}
bool in_127(const in_addr& address) { return ntohl(address.s_addr) >> 24 == 127; }

}  // namespace

TimeNs clock_now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kSecond + now.tv_nsec;
}

HostPort parse_host_port(const std::string& text, const char* option) {
  const std::size_t colon = text.rfind(':');
  HostPort at;
  if (colon != std::string::npos) {
    at.host = text.substr(0, colon);
    at.port = text.substr(colon + 1);
    if (at.host.size() > 2 && at.host.front() == '[' && at.host.back() == ']') {
      at.host = at.host.substr(1, at.host.size() - 2);
    } else if (at.host.find(':') != std::string::npos) {
      at.port.clear();
    }
  }
  const bool digits = !at.port.empty() && at.port.size() <= 5 &&
                      at.port.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || std::stoi(at.port) > 65535) {
    fail_usage("{} '{}': give HOST:PORT, [ADDRESS]:PORT or :PORT", option, text);
  }
  return at;
}

bool is_loopback(const Peer& peer) {
  if (address_size(peer) == sizeof(sockaddr_in)) {
    sockaddr_in v4{};
    std::memcpy(&v4, peer.data(), sizeof v4);
    return v4.sin_family == AF_INET && in_127(v4.sin_addr);
  }
  if (address_size(peer) != sizeof(sockaddr_in6)) return false;
  sockaddr_in6 v6{};
  std::memcpy(&v6, peer.data(), sizeof v6);
  const in_addr* inner = inner_v4(v6);
  return inner != nullptr ? in_127(*inner) : IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) != 0;
}

std::string peer_text(const Peer& peer) {
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (getnameinfo(address_of(peer), static_cast<socklen_t>(address_size(peer)), host.data(),
                  host.size(), port.data(), port.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "?";
  }
  const bool v6 = std::strchr(host.data(), ':') != nullptr;
  return fmt::format("{}{}{}:{}", v6 ? "[" : "", host.data(), v6 ? "]" : "", port.data());
}

struct UdpSocket::Queue {
  std::size_t count = 0;
  std::array<Peer, kBatch> peers;
  std::array<Bytes, kBatch> datagrams;
  // Of receive().
  std::array<std::array<std::byte, kDatagram>, kBatch> buffers;
  std::array<sockaddr_storage, kBatch> names;
  alignas(cmsghdr) std::array<Control, kBatch> controls;  // of flush() too
};

void UdpSocket::QueueDelete::operator()(Queue* queue) const { delete queue; }

UdpSocket::UdpSocket(Fd fd, bool connected)
    : fd_(std::move(fd)),
      connected_(connected),
      local_(name_of(fd_.number(), getsockname)),
      queue_(new Queue) {
  if (connected) remote_ = name_of(fd_.number(), getpeername);
  // As large as the system allows: a burst of many streams must not be lost here.
  setsockopt(fd_.number(), SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof kSocketBytes);
  setsockopt(fd_.number(), SOL_SOCKET, SO_RCVBUF, &kSocketBytes, sizeof kSocketBytes);
}

UdpSocket UdpSocket::bind(const HostPort& at) {
  Addresses found;
  resolve(at, true, found);
  for (const addrinfo* info = found.first; info != nullptr; info = info->ai_next) {
    Fd fd(socket(info->ai_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd.number() < 0) continue;
    const int no = 0;
    if (info->ai_family == AF_INET6 && at.host.empty()) {
      setsockopt(fd.number(), IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    }
    const int yes = 1;
    const bool v6 = info->ai_family == AF_INET6;
    setsockopt(fd.number(), v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVPKTINFO : IP_PKTINFO,
               &yes, sizeof yes);
    if (::bind(fd.number(), info->ai_addr, info->ai_addrlen) == 0) {
      return UdpSocket(std::move(fd), false);
    }
  }
  fail_errno(fmt::format("listen on {}:{}", at.host, at.port));
}

UdpSocket UdpSocket::connect(const HostPort& to) {
  Addresses found;
  resolve(to, false, found);
  for (const addrinfo* info = found.first; info != nullptr; info = info->ai_next) {
    Fd fd(socket(info->ai_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd.number() >= 0 && ::connect(fd.number(), info->ai_addr, info->ai_addrlen) == 0) {
      return UdpSocket(std::move(fd), true);
    }
  }
  fail_errno(fmt::format("connect to {}:{}", to.host, to.port));
}

void UdpSocket::send(const Peer& to, ByteView datagram) {
  queue_->peers[queue_->count] = to;
  queue_->datagrams[queue_->count].assign(datagram.begin(), datagram.end());
  if (++queue_->count == kBatch) flush();
}

void UdpSocket::flush() {
  std::array<mmsghdr, kBatch> messages{};
  std::array<iovec, kBatch> parts{};
  for (std::size_t i = 0; i < queue_->count; ++i) {
    parts[i] = {queue_->datagrams[i].data(), queue_->datagrams[i].size()};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
    if (connected_) continue;
    messages[i].msg_hdr.msg_name = queue_->peers[i].data();
    messages[i].msg_hdr.msg_namelen = static_cast<socklen_t>(address_size(queue_->peers[i]));
    set_local(queue_->peers[i], messages[i].msg_hdr, queue_->controls[i]);
  }
  std::size_t done = 0;
  while (done < queue_->count) {
    const int sent = sendmmsg(fd_.number(), messages.data() + done,
                              static_cast<unsigned>(queue_->count - done), MSG_NOSIGNAL);
    if (sent > 0) {
      done += static_cast<std::size_t>(sent);
    } else if (errno != EINTR) {
      ++done;  // this one is lost: no buffer, or nobody there
    }
  }
  queue_->count = 0;
}

void UdpSocket::receive(std::size_t most, const std::function<void(const Peer&, ByteView)>& take) {
  std::array<mmsghdr, kBatch> messages{};
  std::array<iovec, kBatch> parts{};
  for (std::size_t total = 0; total < most; total += kBatch) {
    for (std::size_t i = 0; i < kBatch; ++i) {
      parts[i] = {queue_->buffers[i].data(), kDatagram};
      messages[i].msg_hdr = {};
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
      messages[i].msg_hdr.msg_name = &queue_->names[i];
      messages[i].msg_hdr.msg_namelen = sizeof queue_->names[i];
      messages[i].msg_hdr.msg_control = queue_->controls[i].data();
      messages[i].msg_hdr.msg_controllen = sizeof queue_->controls[i];
    }
    const int got = recvmmsg(fd_.number(), messages.data(), kBatch, MSG_DONTWAIT, nullptr);
    if (got <= 0) return;  // nothing, or an error that a later packet may get over
    for (int i = 0; i < got; ++i) {
      const Peer from(reinterpret_cast<const char*>(&queue_->names[i]),
                      messages[i].msg_hdr.msg_namelen);
      take(from + local_of(messages[i].msg_hdr),
           ByteView(queue_->buffers[i]).first(messages[i].msg_len));
    }
    if (got < static_cast<int>(kBatch)) return;
  }
}

Poller::Poller() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (epoll_.number() < 0) fail_errno("epoll_create1");
}

void Poller::add(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (epoll_ctl(epoll_.number(), EPOLL_CTL_ADD, fd, &event) == 0) return;
  if (errno != EPERM) fail_errno("epoll_ctl");
  always_.push_back(fd);
}

void Poller::remove(int fd) {
  std::erase(always_, fd);
  epoll_ctl(epoll_.number(), EPOLL_CTL_DEL, fd, nullptr);
}

const std::vector<int>& Poller::wait(TimeNs until) {
  const TimeNs left = always_.empty() ? std::max<TimeNs>(until - clock_now(), 0) : 0;
  const timespec timeout = {left / kSecond, left % kSecond};
  std::array<epoll_event, 8> events{};
  const int count = epoll_pwait2(epoll_.number(), events.data(), events.size(),
                                 until == kNever && always_.empty() ? nullptr : &timeout, nullptr);
  if (count < 0 && errno != EINTR) fail_errno("epoll_pwait2");
  ready_ = always_;
  for (int i = 0; i < count; ++i) ready_.push_back(events[static_cast<std::size_t>(i)].data.fd);
  return ready_;
}

}  // namespace kv
