#pragma once
// A line on stderr that shows how far a long run is: only on a terminal, only after a second.

#include <chrono>
#include <cstdint>
#include <string>

namespace kv {

class Progress {
 public:
  // `unit` as in "tokens"; `total` 0 when unknown. `quiet` never shows anything.
  Progress(std::string label, std::string unit, std::uint64_t total, bool quiet);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void add(std::uint64_t done);

 private:
  using Clock = std::chrono::steady_clock;
  std::string label_, unit_;
  std::uint64_t total_, done_ = 0;
  bool enabled_, shown_ = false;
  Clock::time_point start_, last_;
};

}  // namespace kv
