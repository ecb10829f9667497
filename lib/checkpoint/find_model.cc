#include "kv/checkpoint/checkpoint.hh"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace kv {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> folders() {
  std::vector<std::string> places;
  if (const char* list = std::getenv("KVTOOLS_MODELS")) {
    const std::string_view text = list;
    for (std::size_t begin = 0; begin <= text.size();) {
      const std::size_t end = std::min(text.find(':', begin), text.size());
      if (end > begin) places.emplace_back(text.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  // From the program, so that neither a build nor an installed tree has its path compiled in:
  // <source>/build/.../tools/kvinfo and <prefix>/bin/kvinfo.
  std::error_code ignored;
  fs::path above = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  places.push_back((above / "../share/kvtools/models").lexically_normal());
  for (int i = 0; i < 4 && above.has_relative_path(); ++i, above = above.parent_path()) {
    if (fs::is_directory(above / ".deps/models", ignored)) places.push_back(above / ".deps/models");
  }
  if (const char* data = std::getenv("XDG_DATA_HOME"); data && *data) {
    places.push_back(std::string(data) + "/kvtools/models");
  } else if (const char* home = std::getenv("HOME"); home && *home) {
    places.push_back(std::string(home) + "/.local/share/kvtools/models");
  }
  return places;
}

}  // namespace

std::string find_model(const std::string& path_or_name) {
  if (path_or_name.empty()) fail_usage("no model; give -m MODEL, for example -m smollm2");
  std::error_code ignored;
  if (fs::exists(path_or_name, ignored)) return path_or_name;
  const bool is_name = path_or_name.find('/') == std::string::npos;
  std::vector<std::string> searched;
  if (is_name) {
    for (const std::string& folder : folders()) {
      const std::string path = folder + "/" + path_or_name;
      if (fs::is_regular_file(path + ".gguf", ignored)) return path + ".gguf";
      if (fs::is_directory(path, ignored)) return path;
      searched.push_back(folder);
    }
  }
  fail(ErrorKind::kDevice, "model '{}' is not there{}{}; give a path or set KVTOOLS_MODELS",
       path_or_name, searched.empty() ? "" : ", nor in ", fmt::join(searched, ", "));
}

}  // namespace kv
