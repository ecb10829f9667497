#include "kv/base/folders.hh"
#include "kv/checkpoint/checkpoint.hh"

#include <filesystem>

namespace kv {

namespace fs = std::filesystem;

std::string find_model(const std::string& path_or_name) {
  if (path_or_name.empty()) fail_usage("no model; give -m MODEL, for example -m smollm2");
  std::error_code ignored;
  if (fs::exists(path_or_name, ignored)) return path_or_name;
  const bool is_name = path_or_name.find('/') == std::string::npos;
  std::vector<std::string> searched;
  if (is_name) {
    for (const std::string& folder : search_folders("KVTOOLS_MODELS", "models")) {
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
