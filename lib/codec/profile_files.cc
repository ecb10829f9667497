// Where profiles lie, and those that were read.
#include "kv/base/hash.hh"
#include "kv/codec/cachegen_profile.hh"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>

namespace kv {
namespace {

namespace fs = std::filesystem;

struct Places {
  std::vector<fs::path> files, folders;
};

Places places() {
  Places all;
  std::error_code ignored;
  if (const char* list = std::getenv("KVTOOLS_PROFILES")) {
    const std::string_view text = list;
    for (std::size_t begin = 0; begin <= text.size();) {
      const std::size_t end = std::min(text.find(':', begin), text.size());
      const fs::path path = text.substr(begin, end - begin);
      if (end > begin) (fs::is_directory(path, ignored) ? all.folders : all.files).push_back(path);
      begin = end + 1;
    }
  }
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  all.folders.push_back((program / "../share/kvtools/profiles").lexically_normal());
  if (const char* data = std::getenv("XDG_DATA_HOME"); data && *data) {
    all.folders.push_back(fs::path(data) / "kvtools/profiles");
  } else if (const char* home = std::getenv("HOME"); home && *home) {
    all.folders.push_back(fs::path(home) / ".local/share/kvtools/profiles");
  }
  return all;
}

std::mutex g_mutex;
std::map<std::uint64_t, std::shared_ptr<const CacheGenProfile>> g_known;

std::shared_ptr<const CacheGenProfile> read(const std::string& path) {
  const Bytes bytes = Input::open(path).read_all(CacheGenProfile::kMostBytes);
  return std::make_shared<const CacheGenProfile>(CacheGenProfile::parse(bytes, path));
}

}  // namespace

void add_cachegen_profile(std::shared_ptr<const CacheGenProfile> profile) {
  const std::lock_guard lock(g_mutex);
  const std::uint64_t hash = profile->hash();
  g_known.emplace(hash, std::move(profile));
}

std::shared_ptr<const CacheGenProfile> read_cachegen_profile(const std::string& path) {
  std::shared_ptr<const CacheGenProfile> profile = read(path);
  add_cachegen_profile(profile);
  return profile;
}

std::shared_ptr<const CacheGenProfile> find_cachegen_profile(std::uint64_t hash,
                                                             const std::string& place) {
  const std::lock_guard lock(g_mutex);
  if (const auto known = g_known.find(hash); known != g_known.end()) return known->second;
  const Places all = places();
  std::vector<fs::path> candidates = all.files;
  std::vector<std::string> searched;
  for (const fs::path& folder : all.folders) {
    candidates.push_back(folder / fmt::format("{:016x}.kvprofile", hash));
    searched.push_back(folder.string());
  }
  std::error_code ignored;
  for (const fs::path& path : candidates) {
    if (!fs::is_regular_file(path, ignored)) continue;
    std::shared_ptr<const CacheGenProfile> profile = read(path.string());
    g_known.emplace(profile->hash(), profile);
    if (profile->hash() == hash) return profile;
  }
  fail_input(
      "{}: profile {:016x} is not in {}; put {:016x}.kvprofile there, or name the file in "
      "KVTOOLS_PROFILES",
      place, hash, fmt::join(searched, ", "), hash);
}

}  // namespace kv
