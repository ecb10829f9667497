#include "progress.hh"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>

namespace kv {

// Not std::chrono: clang 14 does not compile the <chrono> of libstdc++ 13, Ubuntu 24.04's.
static double now_s() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

Stopwatch::Stopwatch() : start_s_(now_s()) {}
double Stopwatch::seconds() const { return now_s() - start_s_; }

Progress::Progress(std::string label, std::string unit, bool quiet)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      enabled_(!quiet && isatty(STDERR_FILENO)),
      start_s_(now_s()),
      last_s_(start_s_) {}

Progress::~Progress() { hide(); }

void Progress::hide() {
  if (shown_) fmt::print(stderr, "\r\033[K");
  shown_ = false;
}

void Progress::add(std::int64_t units) {
  done_ += units;
  if (!enabled_) return;
  const double now = now_s();
  const double elapsed_s = now - start_s_;
  if (elapsed_s < 1 || now - last_s_ < 0.1) return;
  last_s_ = now;
  shown_ = true;
  std::string line = label_ + ":";
  if (!unit_.empty()) {
    line += fmt::format(" {} {}, {:.0f} {}/s,", done_, unit_,
                        static_cast<double>(done_) / elapsed_s, unit_);
  }
  if (share_ > 0) {
    const auto left_s = static_cast<std::int64_t>(elapsed_s / share_ * (1 - share_));
    line += fmt::format(" {:.0f} %, {}:{:02} left,", 100 * share_, left_s / 60, left_s % 60);
  }
  line.pop_back();
  fmt::print(stderr, "\r\033[K{}", line);
  std::fflush(stderr);
}

}  // namespace kv
