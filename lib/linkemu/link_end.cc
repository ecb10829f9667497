#include "kv/linkemu/link_end.hh"

#include "kv/base/error.hh"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace kv {
namespace {

constexpr const char* kDevice = "link0";

[[noreturn]] void fail_device(const char* what) {
  fail(ErrorKind::kDevice, "{}: {}; linkemu needs root or user namespaces, and /dev/net/tun", what,
       std::strerror(errno));
}

void write_file(const char* path, const std::string& text) {
  const Fd fd(open(path, O_WRONLY | O_CLOEXEC));
  if (fd.number() < 0 ||
      write(fd.number(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    fail_device(path);
  }
}

// Settings of the kernel's that are not everywhere, and not needed.
void try_write(const char* path, const char* text) {
  const Fd fd(open(path, O_WRONLY | O_CLOEXEC));
  if (fd.number() >= 0) [[maybe_unused]]
    const ssize_t done = write(fd.number(), text, std::strlen(text));
}

ifreq named(const char* device) {
  ifreq request{};
  std::strncpy(request.ifr_name, device, IFNAMSIZ - 1);
  return request;
}

void raise(int socket, const char* device) {
  ifreq request = named(device);
  if (ioctl(socket, SIOCGIFFLAGS, &request) != 0) fail_device("SIOCGIFFLAGS");
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (ioctl(socket, SIOCSIFFLAGS, &request) != 0) fail_device("SIOCSIFFLAGS");
}

void set_v4(int socket, unsigned long what, const char* address) {
  ifreq request = named(kDevice);
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  inet_pton(AF_INET, address, &v4.sin_addr);
  std::memcpy(&request.ifr_addr, &v4, sizeof v4);
  if (ioctl(socket, what, &request) != 0) fail_device("the link's address");
}

void set_v6(const char* address) {
  const Fd socket(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq index = named(kDevice);
  if (socket.number() < 0 || ioctl(socket.number(), SIOCGIFINDEX, &index) != 0) return;
  in6_ifreq request{};
  inet_pton(AF_INET6, address, &request.ifr6_addr);
  request.ifr6_prefixlen = 64;
  request.ifr6_ifindex = index.ifr_ifindex;
  if (ioctl(socket.number(), SIOCSIFADDR, &request) != 0 && errno != EOPNOTSUPP && errno != EACCES)
    fail_device("the link's IPv6 address");
  // The kernel looks for doubles of it first, in a thread of its own, even where it asks nobody.
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_addr = request.ifr6_addr;
  for (int i = 0; i < 1000; ++i) {
    const Fd probe(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (bind(probe.number(), reinterpret_cast<const sockaddr*>(&v6), sizeof v6) == 0) return;
    usleep(1000);
  }
}

}  // namespace

const char* address_v4(Side side) { return side == Side::kNear ? "10.77.0.1" : "10.77.0.2"; }
const char* address_v6(Side side) { return side == Side::kNear ? "fd77::1" : "fd77::2"; }

LinkEnd::LinkEnd(Side side, int mtu) {
  if (unshare(CLONE_NEWNET) != 0) fail_device("a network namespace");
  namespace_ = Fd(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (namespace_.number() < 0) fail_device("/proc/self/ns/net");
  tun_ = Fd(open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (tun_.number() < 0) fail_device("/dev/net/tun");
  // No address of its own choice, no search for routers: the device carries what programs send.
  try_write("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1");
  try_write("/proc/sys/net/ipv6/conf/default/accept_ra", "0");
  try_write("/proc/sys/net/ipv6/conf/default/router_solicitations", "0");
  ifreq request = named(kDevice);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  if (ioctl(tun_.number(), TUNSETIFF, &request) != 0) fail_device("a TUN device");
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (socket.number() < 0) fail_device("a socket");
  set_v4(socket.number(), SIOCSIFADDR, address_v4(side));
  set_v4(socket.number(), SIOCSIFNETMASK, "255.255.255.0");
  request = named(kDevice);
  request.ifr_mtu = mtu;
  if (ioctl(socket.number(), SIOCSIFMTU, &request) != 0) fail_device("the link's MTU");
  raise(socket.number(), kDevice);
  raise(socket.number(), "lo");
  set_v6(address_v6(side));
}

bool LinkEnd::enter() const { return setns(namespace_.number(), CLONE_NEWNET) == 0; }

void become_root() {
  const uid_t user = geteuid();
  const gid_t group = getegid();
  if (user == 0) return;
  if (unshare(CLONE_NEWUSER) != 0) fail_device("a user namespace");
  write_file("/proc/self/uid_map", fmt::format("0 {} 1\n", user));
  write_file("/proc/self/setgroups", "deny");
  write_file("/proc/self/gid_map", fmt::format("0 {} 1\n", group));
}

bool is_for(ByteView packet, Side side) {
  if (packet.empty()) return false;
  const unsigned version = std::to_integer<unsigned>(packet[0]) >> 4;
  std::array<std::byte, 16> address{};
  const bool v4 = version == 4;
  if (!v4 && version != 6) return false;
  const std::size_t at = v4 ? 16 : 24, size = v4 ? 4 : 16;
  if (packet.size() < at + size) return false;
  inet_pton(v4 ? AF_INET : AF_INET6, v4 ? address_v4(side) : address_v6(side), address.data());
  return std::memcmp(packet.data() + at, address.data(), size) == 0;
}

}  // namespace kv
