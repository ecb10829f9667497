#pragma once
// Bytes that come before their place in a file does. Private to the folder.

#include "kv/base/file.hh"

namespace kv {

// An unnamed file in $TMPDIR, gone with the process.
class Spool {
 public:
  Spool();
  Output& output() { return output_; }
  // All of it, once.
  void copy_to(Output& output);

 private:
  Fd fd_;
  Output output_;
};

}  // namespace kv
