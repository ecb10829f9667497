#pragma once
// Commands of the shell, timed.

#include <string>

namespace kv {

struct ShellTimes {
  double wall_s = 0, cpu_s = 0;
};

// `bash -o pipefail -c COMMAND` from a file to a file. Throws kIo with the command when its status
// is not 0.
ShellTimes run_shell(const std::string& command, const std::string& from, const std::string& to);

}  // namespace kv
