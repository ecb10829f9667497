#include "progress.hh"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace kv {

Progress::Progress(std::string label, std::string unit, bool quiet)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      enabled_(!quiet && isatty(STDERR_FILENO)),
      start_(Clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (shown_) fmt::print(stderr, "\r\033[K");
}

void Progress::add(std::int64_t units) {
  done_ += units;
  if (!enabled_) return;
  const Clock::time_point now = Clock::now();
  const double elapsed_s = std::chrono::duration<double>(now - start_).count();
  if (elapsed_s < 1 || now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  shown_ = true;
  std::string line = fmt::format("{}: {} {}, {:.0f} {}/s", label_, done_, unit_,
                                 static_cast<double>(done_) / elapsed_s, unit_);
  if (share_ > 0) {
    const auto left_s = static_cast<std::int64_t>(elapsed_s / share_ * (1 - share_));
    line += fmt::format(", {:.0f} %, {}:{:02} left", 100 * share_, left_s / 60, left_s % 60);
  }
  fmt::print(stderr, "\r\033[K{}", line);
  std::fflush(stderr);
}

}  // namespace kv
