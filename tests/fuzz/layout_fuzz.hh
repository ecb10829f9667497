#pragma once
// A file of another program from anywhere: a whole cache of the model's shape, or a clear refusal.

#include "kv/convert/convert.hh"
#include "kv/convert/engine_keys.hh"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>

namespace kv {

inline void import_any(const char* layout, const std::string& path, std::int64_t block = 0,
                       std::optional<std::vector<std::int32_t>> tokens = std::nullopt) {
  ImportOptions import;
  import.model = {"tiny", "llama", std::string(32, 'a'), "", "", ""};
  import.layers = {{ 0, {1, 4, 2, 0, {}}, 0 }};
  import.vocab = 1 << 20;
  import.id = "fuzz";
  if (tokens) {  // only equal dimensions have stores
    import.layers[0].geometry.v_dim = 4;
    import.tokens = std::move(tokens);
  }
  LayoutOptions options;
  if (import.tokens) options.store = StoreOptions{.model_name = "m"};
  if (block > 0) options.blocks = BlockOptions{.tokens = block};
  try {
    Output nowhere = Output::from_fd(Fd(open("/dev/null", O_WRONLY)), "null");
    import_cache(path, layout_by_name(layout), options, import, nowhere);
  } catch (const Error&) {
  }
}

// A folder for as long as the program runs.
inline const std::string& scratch_folder() {
  struct Folder {
    std::string path = std::filesystem::temp_directory_path() / "kv_fuzz_XXXXXX";
    Folder() { path = mkdtemp(path.data()); }
    ~Folder() { std::filesystem::remove_all(path); }
  };
  static const Folder folder;
  return folder.path;
}

// Bytes that have a name for as long as this lives.
class NamedBytes {
 public:
  NamedBytes(const std::uint8_t* data, std::size_t size) : fd_(memfd_create("fuzz", 0)) {
    whole_ = write(fd_.number(), data, size) == static_cast<ssize_t>(size);
  }
  bool whole() const { return whole_; }
  std::string path() const { return fmt::format("/proc/self/fd/{}", fd_.number()); }

 private:
  Fd fd_;
  bool whole_ = false;
};

}  // namespace kv
