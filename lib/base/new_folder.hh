#pragma once
// Folders that tools write.

#include "kv/base/file.hh"

#include <string>

namespace kv {

// A folder that many caches share, made when it is not there. One that was made and stays empty
// goes again.
class StoreFolder {
 public:
  explicit StoreFolder(std::string path);
  StoreFolder(const StoreFolder&) = delete;
  ~StoreFolder();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool made_;
};

// A folder that appears whole or not at all.
class NewFolder {
 public:
  // Written beside `path`, under another name. Throws kIo when `path` exists and `overwrite` is
  // false, before anything is written.
  NewFolder(std::string path, bool overwrite);
  NewFolder(const NewFolder&) = delete;
  ~NewFolder();

  // A file in it, which the caller commits.
  Output file(const std::string& name) const;
  void write(const std::string& name, ByteView bytes) const;
  // Gives it its name; a folder of that name is removed when the new one has taken its place.
  void commit();

 private:
  std::string path_, temporary_;
  bool overwrite_, committed_ = false;
};

}  // namespace kv
