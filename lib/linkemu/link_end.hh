#pragma once
// An end of an emulated link: a network namespace with nothing in it but loopback and a TUN device.
// What programs in it send to the other end is read from the device, and what is written to the
// device arrives there. No address outside such a namespace is used or reached.

#include "kv/base/file.hh"

namespace kv {

enum class Side : std::uint8_t { kNear = 1, kFar = 2 };

// "10.77.0.1" and "10.77.0.2"; "fd77::1" and "fd77::2" where the kernel has IPv6.
const char* address_v4(Side side);
const char* address_v6(Side side);

class LinkEnd {
 public:
  // Leaves the calling process in the new namespace. `mtu` is of its device. Throws kDevice with
  // the reason where namespaces or TUN devices cannot be had.
  LinkEnd(Side side, int mtu);

  int tun() const { return tun_.number(); }  // IP packets, one a read or write; does not block
  // Puts the calling process, which has one thread, into it. False when the system refuses.
  bool enter() const;

 private:
  Fd namespace_, tun_;
};

// Without root: puts the calling process, which has one thread, into a user namespace in which it
// is. Throws kDevice with the reason. As root does nothing.
void become_root();

// Whether a packet from one end is for the other: those of the system's own, to groups and
// routers, are not.
bool is_for(ByteView packet, Side side);

}  // namespace kv
