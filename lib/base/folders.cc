#include "kv/base/folders.hh"

#include <cstdlib>
#include <filesystem>
#include <string_view>

namespace kv {

std::vector<std::string> search_folders(const char* environment, const std::string& name) {
  namespace fs = std::filesystem;
  std::vector<std::string> places;
  if (const char* list = std::getenv(environment)) {
    const std::string_view text = list;
    for (std::size_t begin = 0; begin <= text.size();) {
      const std::size_t end = std::min(text.find(':', begin), text.size());
      if (end > begin) places.emplace_back(text.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  std::error_code ignored;
  fs::path above = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  places.push_back((above / "../share/kvtools" / name).lexically_normal());
  for (int i = 0; i < 4 && above.has_relative_path(); ++i, above = above.parent_path()) {
    if (fs::is_directory(above / ".deps" / name, ignored)) places.push_back(above / ".deps" / name);
  }
  if (const char* data = std::getenv("XDG_DATA_HOME"); data && *data) {
    places.push_back(std::string(data) + "/kvtools/" + name);
  } else if (const char* home = std::getenv("HOME"); home && *home) {
    places.push_back(std::string(home) + "/.local/share/kvtools/" + name);
  }
  return places;
}

}  // namespace kv
