#include "kv/codec/profiles.hh"

#include "kv/base/folders.hh"
#include "kv/base/hash.hh"
#include "kv/codec/cachegen_profile.hh"
#include "profile_store.hh"

#include <algorithm>
#include <filesystem>

namespace kv {
namespace {

namespace fs = std::filesystem;

struct ClpFiles {
  using Profile = kv::Profile;
  using Head = ProfileHead;
  static constexpr const char* kExtension = ".kvp";
  static std::shared_ptr<const Profile> open(const std::string& path) {
    return Profile::open(path);
  }
  static Head head_of(const Profile& profile) {
    return {profile.model, profile.level, profile.hash};
  }
  static Head read_head(const std::string& path) { return ProfileHead::read(path); }
};

Bytes cachegen_bytes(const std::string& path) {
  return Input::open(path).read_all(CacheGenProfile::kMostBytes);
}

// Their name is the hash of all bytes.
struct CacheGenFiles {
  using Profile = CacheGenProfile;
  using Head = std::uint64_t;
  static constexpr const char* kExtension = ".kvprofile";
  static std::shared_ptr<const Profile> open(const std::string& path) {
    return std::make_shared<const Profile>(Profile::parse(cachegen_bytes(path), path));
  }
  static Head head_of(const Profile& profile) { return profile.hash(); }
  static Head read_head(const std::string& path) { return xxh3_64(cachegen_bytes(path)); }
};

ProfileStore<ClpFiles> g_clp;
ProfileStore<CacheGenFiles> g_cachegen;

}  // namespace

std::vector<std::string> profile_files(const std::string& extension) {
  std::vector<std::string> files;
  for (const std::string& place : search_folders("KVTOOLS_PROFILES", "profiles")) {
    std::error_code ignored;
    if (fs::path(place).extension() == extension) files.push_back(place);
    std::vector<std::string> inside;
    for (fs::directory_iterator at(place, ignored), end; !ignored && at != end;
         at.increment(ignored)) {
      if (at->path().extension() == extension) inside.push_back(at->path());
    }
    std::sort(inside.begin(), inside.end());
    files.insert(files.end(), inside.begin(), inside.end());
  }
  return files;
}

std::shared_ptr<const Profile> find_profile(const ModelIdentity& model, int level) {
  if (model.fingerprint.empty()) return nullptr;
  return g_clp.first_that([&](const ProfileHead& head) {
    return head.model.fingerprint == model.fingerprint && head.level == level;
  });
}

std::vector<std::shared_ptr<const Profile>> find_profiles(const ModelIdentity& model) {
  std::vector<std::shared_ptr<const Profile>> found;
  for (int level = 0; level <= 9; ++level) {
    if (auto profile = find_profile(model, level)) found.push_back(std::move(profile));
  }
  return found;
}

void add_profile(std::shared_ptr<const Profile> profile) { g_clp.add(std::move(profile)); }

std::shared_ptr<const Profile> require_profile(std::uint64_t hash, const std::string& place) {
  auto profile = g_clp.first_that([&](const ProfileHead& head) { return head.hash == hash; });
  if (!profile) {
    fail_input(
        "{}: needs the profile {:016x}, which is not there; put it in a folder named by "
        "KVTOOLS_PROFILES, or make it again with the kvcalibrate command that made it",
        place, hash);
  }
  return profile;
}

void add_cachegen_profile(std::shared_ptr<const CacheGenProfile> profile) {
  g_cachegen.add(std::move(profile));
}

std::shared_ptr<const CacheGenProfile> read_cachegen_profile(const std::string& path) {
  std::shared_ptr<const CacheGenProfile> profile = CacheGenFiles::open(path);
  add_cachegen_profile(profile);
  return profile;
}

std::shared_ptr<const CacheGenProfile> find_cachegen_profile(std::uint64_t hash,
                                                             const std::string& place) {
  auto profile = g_cachegen.first_that([&](std::uint64_t head) { return head == hash; });
  if (!profile) {
    fail_input(
        "{}: profile {:016x} is not in {}; put {:016x}.kvprofile there, or name the file in "
        "KVTOOLS_PROFILES",
        place, hash, fmt::join(search_folders("KVTOOLS_PROFILES", "profiles"), ", "), hash);
  }
  return profile;
}

}  // namespace kv
