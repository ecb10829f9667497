#include "kv/base/new_folder.hh"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

namespace kv {
namespace {

[[noreturn]] void fail_exists(const std::string& path) {
  fail(ErrorKind::kIo, "{}: exists already; give another name, or -f to overwrite it", path);
}

}  // namespace

StoreFolder::StoreFolder(std::string path)
    : path_(std::move(path)), made_(mkdir(path_.c_str(), 0777) == 0) {
  if (!made_ && errno != EEXIST) fail_errno("create " + path_);
}

StoreFolder::~StoreFolder() {
  if (made_) rmdir(path_.c_str());
}

NewFolder::NewFolder(std::string path, bool overwrite)
    : path_(std::move(path)), overwrite_(overwrite) {
  while (path_.size() > 1 && path_.ends_with('/')) path_.pop_back();
  struct stat status = {};
  const bool exists = lstat(path_.c_str(), &status) == 0;
  if (exists && !overwrite) fail_exists(path_);
  if (exists && !S_ISDIR(status.st_mode)) {
    fail(ErrorKind::kIo, "{}: is there and is no folder", path_);
  }
  temporary_ = fmt::format("{}.{}.tmp", path_, getpid());
  if (mkdir(temporary_.c_str(), 0777) != 0) {
    const std::string name = std::exchange(temporary_, {});
    fail_errno("create " + name);
  }
}

NewFolder::~NewFolder() {
  if (committed_ || temporary_.empty()) return;
  std::error_code ignored;
  std::filesystem::remove_all(temporary_, ignored);
}

Output NewFolder::file(const std::string& name) const {
  return Output::create(temporary_ + "/" + name, false);
}

void NewFolder::write(const std::string& name, ByteView bytes) const {
  Output output = file(name);
  output.write(bytes);
  output.commit();
}

void NewFolder::commit() {
  const auto move = [this](unsigned flags) {
    return renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), flags) == 0;
  };
  if (!move(RENAME_NOREPLACE)) {
    if (errno != EEXIST) fail_errno("rename to " + path_);
    if (!overwrite_) fail_exists(path_);
    // Both names at once: at no moment is there none.
    if (!move(RENAME_EXCHANGE)) fail_errno("rename to " + path_);
    std::error_code error;
    std::filesystem::remove_all(temporary_, error);
    if (error) fail(ErrorKind::kIo, "{}: cannot remove: {}", temporary_, error.message());
  }
  committed_ = true;
}

}  // namespace kv
