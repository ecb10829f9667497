#pragma once
// A folder that appears whole or not at all. Private to the folder.

#include "kv/base/file.hh"

#include <string>

namespace kv {

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
