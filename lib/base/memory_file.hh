#pragma once
// A file without a name, in memory: what one tool hands to the next where both run in one process.

#include "kv/base/file.hh"

#include <cstdint>
#include <string>

namespace kv {

class MemoryFile {
 public:
  // `name` is for those who look into /proc.
  explicit MemoryFile(const std::string& name);

  // Under which this process and those it starts can open it, each at its beginning.
  std::string path() const;
  std::uint64_t size_bytes() const;
  // To write it from the beginning; once.
  Output output() const;

 private:
  Fd fd_;
};

}  // namespace kv
