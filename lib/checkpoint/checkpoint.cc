#include "kv/checkpoint/checkpoint.hh"

#include "gguf_checkpoint.hh"
#include "hf_checkpoint.hh"

#include <sys/stat.h>

namespace kv {

std::unique_ptr<Checkpoint> Checkpoint::open(const std::string& path_or_name) {
  const std::string path = find_model(path_or_name);
  struct stat status = {};
  if (stat(path.c_str(), &status) != 0) fail_errno("stat " + path);
  if (S_ISDIR(status.st_mode)) return std::make_unique<HfCheckpoint>(path);
  return std::make_unique<GgufCheckpoint>(path);
}

}  // namespace kv
