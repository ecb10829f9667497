// Where profiles lie, and those that were read.
#include "kv/base/folders.hh"
#include "kv/codec/cachegen_profile.hh"

#include <filesystem>
#include <map>
#include <mutex>

namespace kv {
namespace {

namespace fs = std::filesystem;

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
  const std::vector<std::string> searched = search_folders("KVTOOLS_PROFILES", "profiles");
  std::vector<fs::path> candidates;
  for (const fs::path folder : searched) {
    if (folder.extension() == ".kvprofile") candidates.push_back(folder);
    candidates.push_back(folder / fmt::format("{:016x}.kvprofile", hash));
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
