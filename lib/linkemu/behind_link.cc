#include "kv/linkemu/behind_link.hh"

#include "kv/base/error.hh"
#include "kv/linkemu/link_end.hh"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

namespace kv {
namespace {

constexpr TimeNs kFarGrace = 2 * kSecond, kKillGrace = 1 * kSecond;

TimeNs clock_now() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

sigset_t watched() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGCHLD, SIGINT, SIGTERM}) sigaddset(&set, signal);
  return set;
}

// In the child, behind fork(): only what may be called there.
[[noreturn]] void become(const LinkEnd& end, const std::vector<std::string>& words, bool far,
                         const sigset_t& signals, TimeNs began, int complaint) {
  sigprocmask(SIG_SETMASK, &signals, nullptr);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  bool ready = end.enter();
  if (far) {
    setpgid(0, 0);
    const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ready = ready && nothing >= 0 && dup2(nothing, STDIN_FILENO) >= 0 &&
            dup2(STDERR_FILENO, STDOUT_FILENO) >= 0;
  }
  setenv("LINKEMU_NEAR", address_v4(Side::kNear), 1);
  setenv("LINKEMU_FAR", address_v4(Side::kFar), 1);
  setenv("LINKEMU_BEGAN", std::to_string(began).c_str(), 1);
  if (ready) execvp(argv[0], argv.data());
  const int error = errno;
  [[maybe_unused]] const ssize_t done = write(complaint, &error, sizeof error);
  _exit(127);
}

pid_t start(const LinkEnd& end, const std::vector<std::string>& words, bool far,
            const sigset_t& signals, TimeNs began) {
  std::array<int, 2> pipe_ends{};
  if (pipe2(pipe_ends.data(), O_CLOEXEC) != 0) fail_errno("pipe");
  const Fd reads(pipe_ends[0]);
  Fd writes(pipe_ends[1]);
  const pid_t child = fork();
  if (child < 0) fail_errno("fork");
  if (child == 0) become(end, words, far, signals, began, writes.number());
  writes = Fd();
  int error = 0;
  if (read(reads.number(), &error, sizeof error) == sizeof error) {
    waitpid(child, nullptr, 0);
    fail_usage("{}: {}", words[0], std::strerror(error));
  }
  return child;
}

int status_of(int wait_status) {
  return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

class Running {
 public:
  explicit Running(const LinkemuOptions& o)
      : o_(o), forward_(o.forward, o.path_seed, 0), back_(o.back, o.path_seed, 1) {}

  LinkemuReport run() {
    become_root();
    const LinkEnd near(Side::kNear, o_.mtu), far(Side::kFar, o_.mtu);
    const sigset_t set = watched();
    sigset_t before;
    sigprocmask(SIG_BLOCK, &set, &before);
    const Fd signals(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (signals.number() < 0) fail_errno("signalfd");
    began_ = clock_now();
    if (!o_.far.empty()) far_ = start(far, {"/bin/sh", "-c", o_.far}, true, before, began_);
    try {
      near_ = start(near, o_.command, false, before, began_);
    } catch (const Error&) {
      if (far_ > 0) kill(-far_, SIGTERM);
      throw;
    }
    std::array<pollfd, 3> fds = {pollfd{signals.number(), POLLIN, 0}, pollfd{near.tun(), POLLIN, 0},
                                 pollfd{far.tun(), POLLIN, 0}};
    while (near_ > 0 || far_ > 0) {
      wait(fds);
      if (fds[0].revents != 0) take_signals(signals.number());
      if (fds[1].revents != 0) take(near.tun(), Side::kFar, back_);
      if (fds[2].revents != 0) take(far.tun(), Side::kNear, forward_);
      deliver(back_, far.tun());
      deliver(forward_, near.tun());
      end_far();
    }
    report_.forward = forward_.counts();
    report_.back = back_.counts();
    return report_;
  }

 private:
  TimeNs now() const { return clock_now() - began_; }

  void wait(std::array<pollfd, 3>& fds) const {
    const TimeNs at = std::min({forward_.next_at(), back_.next_at(), end_at_});
    const TimeNs left = at == kNever ? 0 : std::max<TimeNs>(at - now(), 0);
    const timespec timeout = {left / kSecond, left % kSecond};
    if (ppoll(fds.data(), fds.size(), at == kNever ? nullptr : &timeout, nullptr) < 0) {
      if (errno != EINTR) fail_errno("ppoll");
      for (pollfd& fd : fds) fd.revents = 0;
    }
  }

  void take_signals(int fd) {
    signalfd_siginfo info{};
    while (read(fd, &info, sizeof info) == sizeof info) {
      if (info.ssi_signo != SIGCHLD && near_ > 0) kill(near_, static_cast<int>(info.ssi_signo));
    }
    int status = 0;
    for (pid_t child; (child = waitpid(-1, &status, WNOHANG)) > 0;) {
      if (child == near_) {
        near_ = 0;
        report_.status = status_of(status);
        if (far_ > 0) end_at_ = now() + kFarGrace;
      } else if (child == far_) {
        far_ = 0;
        if (!ended_) report_.far_status = status_of(status);
      }
    }
  }

  void end_far() {
    if (far_ == 0 || now() < end_at_) return;
    kill(-far_, ended_ ? SIGKILL : SIGTERM);
    ended_ = true;
    end_at_ = now() + kKillGrace;
  }

  void take(int tun, Side to, Direction& direction) {
    for (int i = 0; i < 64; ++i) {
      const ssize_t size = read(tun, buffer_.data(), buffer_.size());
      if (size <= 0) return;
      const ByteView packet = ByteView(buffer_).first(static_cast<std::size_t>(size));
      if (is_for(packet, to)) direction.take(now(), packet);
    }
  }

  void deliver(Direction& direction, int tun) {
    while (true) {
      const ByteView packet = direction.arrived(now());
      if (packet.empty()) return;
      // What the device does not take is lost, as a device's queue may lose it.
      [[maybe_unused]] const ssize_t done = write(tun, packet.data(), packet.size());
    }
  }

  const LinkemuOptions& o_;
  Direction forward_, back_;
  LinkemuReport report_;
  TimeNs began_ = 0, end_at_ = kNever;
  pid_t near_ = 0, far_ = 0;
  bool ended_ = false;
  std::array<std::byte, 65536> buffer_{};
};

}  // namespace

LinkemuReport run_behind_link(const LinkemuOptions& options) { return Running(options).run(); }

}  // namespace kv
