#pragma once
// Which variant of a kernel runs. Private to the folder; not for the files that are compiled for
// one processor (int8_dot_targets.hh says why).

#include <algorithm>
#include <atomic>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace kv {

template <typename Target, typename Run>
struct TargetEntry {
  Target target;
  const char* name;
  Run run;         // what tells the variants apart: a function, as a rule
  bool (*here)();  // whether this machine can run it
};

// Asks the machine when it is made, which should be when it is first needed: a tool that uses no
// kernel need not ask.
template <typename Target, typename Run>
class TargetTable {
 public:
  using Entry = TargetEntry<Target, Run>;

  // The fastest first; the last runs everywhere. The entries outlive the table. `what` is for
  // messages.
  TargetTable(const char* what, std::span<const Entry> entries) : what_(what), entries_(entries) {
    for (const Entry& entry : entries) {
      if (entry.here()) here_.push_back(entry.target);
    }
    selected_ = &entry_of(here_.front());
  }

  const char* name(Target target) const { return entry_of(target).name; }
  // The fastest first.
  std::span<const Target> here() const { return here_; }
  const Entry& selected() const { return *selected_.load(std::memory_order_relaxed); }
  // What all threads use from now on. Throws std::invalid_argument if it is not one of here().
  void select(Target target) {
    if (std::find(here_.begin(), here_.end(), target) == here_.end()) {
      throw std::invalid_argument(std::string(what_) + ": this machine cannot run this target");
    }
    selected_ = &entry_of(target);
  }

 private:
  const Entry& entry_of(Target target) const {
    for (const Entry& entry : entries_) {
      if (entry.target == target) return entry;
    }
    throw std::invalid_argument(std::string(what_) + ": this build has no such target");
  }

  const char* what_;
  std::span<const Entry> entries_;
  std::vector<Target> here_;
  std::atomic<const Entry*> selected_ = nullptr;
};

}  // namespace kv
