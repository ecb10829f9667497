#include "kv/base/memory_file.hh"

#include "kv/base/error.hh"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace kv {

MemoryFile::MemoryFile(const std::string& name) : fd_(memfd_create(name.c_str(), MFD_CLOEXEC)) {
  if (fd_.number() < 0) fail_errno("make a file in memory");
}

std::string MemoryFile::path() const {
  return fmt::format("/proc/{}/fd/{}", getpid(), fd_.number());
}

std::uint64_t MemoryFile::size_bytes() const {
  struct stat status = {};
  if (fstat(fd_.number(), &status) != 0) fail_errno("stat a file in memory");
  return static_cast<std::uint64_t>(status.st_size);
}

Output MemoryFile::output() const {
  Fd own(fcntl(fd_.number(), F_DUPFD_CLOEXEC, 3));
  if (own.number() < 0) fail_errno("write a file in memory");
  return Output::from_fd(std::move(own), "-");
}

}  // namespace kv
