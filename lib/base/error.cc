#include "kv/base/error.hh"

#include <cerrno>
#include <cstring>

namespace kv {

void fail_errno(const std::string& what) {
  throw Error(ErrorKind::kIo, fmt::format("{}: {}", what, std::strerror(errno)));
}

}  // namespace kv
