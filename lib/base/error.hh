#pragma once
// The one exception type of the library. The library never prints and never exits; tools catch
// kv::Error once, print "tool: message" and exit with the kind's status.

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace kv {

// The value is the exit status, documented in kv(7). "no" (1) is an answer, not an error: a check
// that failed, files that differ.
enum class ErrorKind : int {
  kNo = 1,
  kUsage = 2,
  kInput = 3,   // bad, truncated or mismatched input
  kIo = 4,      // the operating system refused: open, read, write, rename
  kDevice = 5,  // device or model unavailable
};

// A message is one line: the file (or "-"), the place in it, the cause, and what to do.
//   report.kv: byte 90112: TENS frame 17: checksum mismatch; the file is damaged, make it again
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

template <typename... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
[[noreturn]] void fail_input(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ErrorKind::kInput, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
[[noreturn]] void fail_usage(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ErrorKind::kUsage, fmt::format(format, std::forward<Args>(args)...));
}

// `what` names the failed call and its object ("open report.kv"); errno's text is appended.
[[noreturn]] void fail_errno(const std::string& what);

}  // namespace kv
