#pragma once
// A link of a stated rate, as a pipe: byte n of what lies in memory can be read n / rate after the
// start, and not sooner. Pages go into the pipe as they are (vmsplice), so that the sending side,
// which would be a network card, takes next to nothing of a core.

#include "kv/base/error.hh"
#include "kv/base/file.hh"

#include <fcntl.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>

namespace kv {

class PacedPipe {
 public:
  // 0 bits a second: as fast as the pipe goes. `bytes` outlive this; the reader reads to the end.
  PacedPipe(ByteView bytes, double bits_per_s) {
    int ends[2] = {-1, -1};
    if (pipe2(ends, O_CLOEXEC) != 0) fail(ErrorKind::kIo, "pipe: {}", std::strerror(errno));
    read_ = Fd(ends[0]);
    fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);  // as much as everybody may have
    sender_ =
        std::jthread([bytes, bits_per_s, end = Fd(ends[1])] { send(bytes, bits_per_s, end); });
  }

  std::string path() const { return "/dev/fd/" + std::to_string(read_.number()); }

 private:
  static void send(ByteView bytes, double bits_per_s, const Fd& end) {
    constexpr std::size_t kPieceBytes = 1 << 16;
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t sent = 0; sent < bytes.size();) {
      const std::size_t piece = std::min(kPieceBytes, bytes.size() - sent);
      if (bits_per_s > 0) {
        const double due_s = 8 * static_cast<double>(sent + piece) / bits_per_s;
        std::this_thread::sleep_until(
            start + std::chrono::nanoseconds(static_cast<std::int64_t>(due_s * 1e9)));
      }
      const std::byte* data = bytes.data() + sent;
      const iovec view = {const_cast<std::byte*>(data), piece};
      const ssize_t took = vmsplice(end.number(), &view, 1, 0);
      if (took < 0 && errno == EINTR) continue;
      if (took < 0) return;  // the reader says what was wrong
      sent += static_cast<std::size_t>(took);
    }
  }

  Fd read_;
  std::jthread sender_;
};

}  // namespace kv
