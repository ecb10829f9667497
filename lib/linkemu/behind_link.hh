#pragma once
// Runs programs at both ends of an emulated link.

#include "kv/linkemu/direction.hh"

#include <string>

namespace kv {

struct LinkemuOptions {
  LinkOptions forward, back;         // from the far end to the near one, and back
  std::uint64_t path_seed = 0;       // experiment.hh's, for the simulator's path
  int mtu = 1500;                    // 1280 to 9000
  std::string far;                   // for sh -c at the far end; empty: nothing runs there
  std::vector<std::string> command;  // at the near end
};

struct LinkemuReport {
  int status = 0;                 // of the command, as a shell says it: signals are 128 and more
  std::optional<int> far_status;  // nothing where it had to be ended
  Direction::Counts forward, back;
};

// The command has this process's standard input, output and error; what runs at the far end has
// /dev/null, and error for output too. Both find the addresses in LINKEMU_NEAR and LINKEMU_FAR, and
// in LINKEMU_BEGAN when the path began, as nanoseconds of the monotonic clock. Ends when the
// command does; the far one has two seconds then, and is ended. SIGINT and SIGTERM go on to the
// command. Throws kDevice where there can be no link, kUsage for a command that cannot be run.
//
// Changes the process for good: it is in the far namespace afterwards. It must have one thread.
LinkemuReport run_behind_link(const LinkemuOptions& options);

}  // namespace kv
