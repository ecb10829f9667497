// link GB_PER_S FILE: the file to stdout, as a network link of that many Gb/s would bring it: time
// that it waits for the reader is not made up for. Exit status 1 if it cannot be read or written.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

int main(int argc, char** argv) {
  using Clock = std::chrono::steady_clock;
  constexpr std::size_t kPiece = 1 << 16;
  const double gb_per_s = argc == 3 ? std::atof(argv[1]) : 0;
  if (!(gb_per_s > 0)) {
    std::fprintf(stderr, "usage: link GB_PER_S FILE\n");
    return 2;
  }
  const int file = open(argv[2], O_RDONLY);
  if (file < 0) return 1;
  std::vector<char> piece(kPiece);
  Clock::time_point due = Clock::now();
  while (true) {
    const ssize_t size = read(file, piece.data(), kPiece);
    if (size <= 0) return size == 0 ? 0 : 1;
    const std::chrono::duration<double, std::nano> takes(8.0 * static_cast<double>(size) /
                                                         gb_per_s);
    // Sleeps end late; a millisecond at most is made up for.
    due = std::max(due, Clock::now() - std::chrono::milliseconds(1)) +
          std::chrono::duration_cast<Clock::duration>(takes);
    std::this_thread::sleep_until(due);
    for (ssize_t done = 0; done < size;) {
      const ssize_t wrote =
          write(STDOUT_FILENO, piece.data() + done, static_cast<std::size_t>(size - done));
      if (wrote <= 0) return 1;
      done += wrote;
    }
  }
}
