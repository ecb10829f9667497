#include "kv/base/error.hh"
#include "kv/measure/stage.hh"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

namespace kv {
namespace {

class ShellStage : public Stage {
 public:
  ShellStage(std::string text, Variables variables)
      : text_(std::move(text)), variables_(std::move(variables)) {}

  bool in_process() const override { return false; }
  bool fuses() const override { return text_.find("kvblend") != std::string::npos; }

  std::optional<StageWork> run(const MemoryFile& from, const MemoryFile& to) override {
    const std::string in = from.path(), out = to.path();
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, in.c_str(), O_RDONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(), O_WRONLY, 0);
    std::array<std::string, 5> words = {"bash", "-o", "pipefail", "-c", text_};
    std::array<char*, 6> arguments{};
    for (std::size_t i = 0; i < words.size(); ++i) arguments[i] = words[i].data();
    std::vector<std::string> own;
    std::vector<char*> environment;
    for (const auto& [name, value] : variables_) own.push_back(fmt::format("{}={}", name, value));
    for (std::string& each : own) environment.push_back(each.data());
    for (char** each = environ; *each; ++each) environment.push_back(*each);
    environment.push_back(nullptr);
    pid_t child = 0;
    const int code =
        ::posix_spawnp(&child, "bash", &actions, nullptr, arguments.data(), environment.data());
    ::posix_spawn_file_actions_destroy(&actions);
    if (code != 0) {
      errno = code;
      fail_errno("start bash for '" + text_ + "'");
    }
    int status = 0;
    while (::waitpid(child, &status, 0) < 0) {
      if (errno != EINTR) fail_errno("wait for '" + text_ + "'");
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      fail(ErrorKind::kIo, "'{}' ended with status {}", text_,
           WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
    return std::nullopt;
  }

 private:
  std::string text_;
  Variables variables_;
};

}  // namespace

std::unique_ptr<Stage> shell_stage(std::string text, Variables variables) {
  return std::make_unique<ShellStage>(std::move(text), std::move(variables));
}

}  // namespace kv
