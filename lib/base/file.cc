#include "kv/base/file.hh"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace kv {
namespace {

// Linux moves at most 2 GiB less a page in one call.
constexpr std::size_t kMaxTransferBytes = 1u << 30;

// Another process may sit between our look and our call, so both are told apart by errno only.
[[noreturn]] void fail_exists(const std::string& path) {
  fail(ErrorKind::kIo, "{}: exists; give -f to overwrite it", path);
}

[[noreturn]] void fail_write(const std::string& name) {
  // The pages of a mapped input are gone when another program has cut the file.
  if (errno == EFAULT) {
    fail_input("{}: an input file was cut short by another program while it was read; run again",
               name);
  }
  fail_errno("write " + name);
}

// A pipe of 1 MiB instead of 64 KiB halves the time of large transfers. Not a pipe, or beyond the
// user's limit: nothing changes.
void widen_pipe(const Fd& fd) { fcntl(fd.number(), F_SETPIPE_SZ, 1 << 20); }

std::string parent_folder(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// The temporary name of the output being written, for the signal handler: only async-signal-safe
// calls may touch it.
std::atomic<const char*> g_unlink_on_signal{nullptr};

void unlink_and_die(int signal_number) {
  if (const char* path = g_unlink_on_signal.load()) unlink(path);
  std::signal(signal_number, SIG_DFL);
  std::raise(signal_number);
}

void unlink_on_signals() {
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction old = {};
    sigaction(number, nullptr, &old);
    if (old.sa_handler == SIG_DFL) std::signal(number, unlink_and_die);
  }
}

}  // namespace

Fd& Fd::operator=(Fd&& other) noexcept {
  std::swap(number_, other.number_);
  return *this;
}

Fd::~Fd() {
  if (number_ > STDERR_FILENO) close(number_);
}

int Fd::release() { return std::exchange(number_, -1); }

Mapping::Mapping(int fd, std::uint64_t size_bytes, const std::string& name) {
  if (size_bytes == 0) return;  // mmap refuses empty mappings
  void* address = mmap(nullptr, size_bytes, PROT_READ, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) fail_errno("mmap " + name);
  bytes_ = {static_cast<const std::byte*>(address), static_cast<std::size_t>(size_bytes)};
}

Mapping::Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

Mapping::~Mapping() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

Input::Input(Fd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {
  struct stat status = {};
  if (fstat(fd_.number(), &status) != 0) fail_errno("stat " + name_);
  if (S_ISDIR(status.st_mode)) {
    errno = EISDIR;
    fail_errno("read " + name_);
  }
  if (S_ISREG(status.st_mode)) size_bytes_ = static_cast<std::uint64_t>(status.st_size);
  if (S_ISFIFO(status.st_mode)) widen_pipe(fd_);
}

Input Input::open(const std::string& path) {
  if (path.empty() || path == "-") return {Fd(STDIN_FILENO), "-"};
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.number() < 0) fail_errno("open " + path);
  return {std::move(fd), path};
}

std::size_t Input::read_some(std::span<std::byte> into) {
  while (true) {
    const std::size_t want = std::min(into.size(), kMaxTransferBytes);
    const ssize_t got = ::read(fd_.number(), into.data(), want);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) fail_errno("read " + name_);
  }
}

std::size_t Input::read(std::span<std::byte> into) {
  std::size_t done = 0;
  while (done < into.size()) {
    const std::size_t got = read_some(into.subspan(done));
    if (got == 0) break;
    done += got;
  }
  return done;
}

Bytes Input::read_all(std::uint64_t limit_bytes) {
  Bytes all;
  std::size_t used = 0;
  while (true) {
    // One byte over the limit tells "exactly full" from "too much".
    const std::uint64_t room = limit_bytes + 1 - used;
    all.resize(used + static_cast<std::size_t>(
                          std::min<std::uint64_t>(room, std::max<std::size_t>(used, 1u << 16))));
    const std::size_t got = read(std::span(all).subspan(used));
    used += got;
    if (used > limit_bytes) fail_input("{}: more than {} bytes", name_, limit_bytes);
    if (used < all.size()) break;
  }
  all.resize(used);
  return all;
}

bool Input::mappable() const {
  return size_bytes_.has_value() && ::lseek(fd_.number(), 0, SEEK_CUR) == 0;
}

Mapping Input::map() const { return Mapping(fd_.number(), size_bytes_.value(), name_); }

struct Output::State {
  Fd fd;
  std::string name;       // in messages
  std::string path;       // final; empty for stdout
  std::string temporary;  // empty when the inode has no name yet
  bool overwrite = false;
  bool committed = false;
  std::uint64_t written_bytes = 0;

  ~State() {
    if (committed || temporary.empty()) return;
    unlink(temporary.c_str());
    g_unlink_on_signal = nullptr;
  }
  void make_temporary_name() {
    temporary = fmt::format("{}.{}.tmp", path, getpid());
    g_unlink_on_signal = temporary.c_str();
    unlink_on_signals();
  }
};

Output::Output(std::unique_ptr<State> state) : state_(std::move(state)) {}
Output::Output(Output&&) noexcept = default;
Output& Output::operator=(Output&&) noexcept = default;
Output::~Output() = default;

Output Output::create(const std::string& path, bool overwrite) {
  auto state = std::make_unique<State>();
  if (path.empty() || path == "-") {
    state->fd = Fd(STDOUT_FILENO);
    state->name = "-";
    widen_pipe(state->fd);
    return Output(std::move(state));
  }
  state->name = state->path = path;
  state->overwrite = overwrite;
  struct stat status = {};
  const bool exists = stat(path.c_str(), &status) == 0;
  // Renaming over a device or a pipe would replace it by a file.
  if (exists && !S_ISREG(status.st_mode)) {
    state->fd = Fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (state->fd.number() < 0) fail_errno("open " + path);
    state->path.clear();
    return Output(std::move(state));
  }
  if (exists && !overwrite) fail_exists(path);
  state->fd = Fd(::open(parent_folder(path).c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666));
  if (state->fd.number() < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
    state->make_temporary_name();
    state->fd = Fd(::open(state->temporary.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666));
  }
  if (state->fd.number() < 0) {
    state->temporary.clear();
    fail_errno("create " + path);
  }
  return Output(std::move(state));
}

Output Output::from_fd(Fd fd, std::string name) {
  auto state = std::make_unique<State>();
  state->fd = std::move(fd);
  state->name = std::move(name);
  return Output(std::move(state));
}

const std::string& Output::name() const { return state_->name; }
std::uint64_t Output::written_bytes() const { return state_->written_bytes; }
bool Output::is_stdout() const { return state_->fd.number() == STDOUT_FILENO; }

void Output::write(ByteView bytes) { write(bytes, {}); }

void Output::write(ByteView first, ByteView second) {
  while (!first.empty() || !second.empty()) {
    const ByteView part = second.subspan(0, std::min(second.size(), kMaxTransferBytes));
    std::array<iovec, 2> pieces = {iovec{const_cast<std::byte*>(first.data()), first.size()},
                                   iovec{const_cast<std::byte*>(part.data()), part.size()}};
    const ssize_t got = writev(state_->fd.number(), pieces.data(), pieces.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_write(state_->name);
    const auto done = static_cast<std::size_t>(got);
    state_->written_bytes += done;
    const std::size_t of_first = std::min(done, first.size());
    first = first.subspan(of_first);
    second = second.subspan(done - of_first);
  }
}

bool Output::has_places() const {
  struct stat status = {};
  return fstat(state_->fd.number(), &status) == 0 && S_ISREG(status.st_mode) &&
         (fcntl(state_->fd.number(), F_GETFL) & O_APPEND) == 0;
}

void Output::write_at(std::uint64_t offset, ByteView bytes) const {
  while (!bytes.empty()) {
    const ssize_t got =
        pwrite(state_->fd.number(), bytes.data(), std::min(bytes.size(), kMaxTransferBytes),
               static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_write(state_->name);
    offset += static_cast<std::uint64_t>(got);
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
}

void Output::commit() {
  State& state = *state_;
  if (state.committed) return;
  if (state.path.empty()) {  // stdout, a device or a pipe: nothing to rename
    if (state.fd.number() > STDERR_FILENO && close(state.fd.release()) != 0) {
      fail_errno("close " + state.name);
    }
    state.committed = true;
    return;
  }
  if (state.temporary.empty()) {
    const std::string inode = fmt::format("/proc/self/fd/{}", state.fd.number());
    const auto link_as = [&](const std::string& name) {
      return linkat(AT_FDCWD, inode.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0;
    };
    if (!link_as(state.path)) {
      if (errno != EEXIST) fail_errno("create " + state.path);
      if (!state.overwrite) fail_exists(state.path);
      // linkat cannot replace, so the last step is a rename from a name beside it.
      state.make_temporary_name();
      unlink(state.temporary.c_str());
      if (!link_as(state.temporary)) fail_errno("create " + state.temporary);
    }
  }
  if (close(state.fd.release()) != 0) fail_errno("close " + state.path);
  if (!state.temporary.empty()) {
    const unsigned flags = state.overwrite ? 0u : static_cast<unsigned>(RENAME_NOREPLACE);
    if (renameat2(AT_FDCWD, state.temporary.c_str(), AT_FDCWD, state.path.c_str(), flags) != 0) {
      if (errno == EEXIST) fail_exists(state.path);
      fail_errno("rename to " + state.path);
    }
    g_unlink_on_signal = nullptr;
  }
  state.committed = true;
}

namespace {
const char* g_program = "kv";

void report_sigbus(int) {
  const auto say = [](const char* text) {
    [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, text, std::strlen(text));
  };
  say(g_program);
  say(": an input file was cut short by another program while it was read; run again\n");
  if (const char* path = g_unlink_on_signal.load()) unlink(path);
  _exit(static_cast<int>(ErrorKind::kInput));
}
}  // namespace

void map_guard(const char* program) {
  g_program = program;
  std::signal(SIGBUS, report_sigbus);
}

}  // namespace kv
