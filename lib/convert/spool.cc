#include "spool.hh"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace kv {
namespace {

Fd unnamed_file() {
  const char* folder = std::getenv("TMPDIR");
  std::string name = fmt::format("{}/kvconvert.XXXXXX", folder && *folder ? folder : "/tmp");
  Fd fd(mkostemp(name.data(), O_CLOEXEC));
  if (fd.number() < 0) fail_errno("create " + name);
  unlink(name.c_str());
  return fd;
}

}  // namespace

Spool::Spool()
    : fd_(unnamed_file()), output_(Output::from_fd(Fd(dup(fd_.number())), "temporary file")) {}

void Spool::copy_to(Output& output) {
  output_.commit();
  struct stat status = {};
  if (fstat(fd_.number(), &status) != 0) fail_errno("stat temporary file");
  const Mapping all(fd_.number(), static_cast<std::uint64_t>(status.st_size), "temporary file");
  output.write(all.bytes());
}

}  // namespace kv
