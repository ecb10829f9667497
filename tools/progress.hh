#pragma once
// A line on stderr that shows how far a long run is: only on a terminal, only after a second.

#include <cstdint>
#include <string>

namespace kv {

// Seconds since it was made.
class Stopwatch {
 public:
  Stopwatch();
  double seconds() const;

 private:
  double start_s_;
};

class Progress {
 public:
  // `unit` as in "tokens"; none: only the share is shown. `quiet` never shows anything.
  Progress(std::string label, std::string unit, bool quiet);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // How much of the run is behind us, 0 to 1: what the time left is reckoned from. Unset: unknown.
  void set_share(double share) { share_ = share; }
  // What the run is at.
  void set_label(std::string label) { label_ = std::move(label); }
  void add(std::int64_t units);
  // Takes the line away, so that another can be written; the next add() brings it back.
  void hide();

 private:
  std::string label_, unit_;
  std::int64_t done_ = 0;
  double share_ = 0;
  bool enabled_, shown_ = false;
  double start_s_, last_s_;
};

}  // namespace kv
