#include "kv/codec/profiles.hh"

#include "kv/base/folders.hh"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>

namespace kv {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> candidates() {
  std::vector<std::string> files;
  for (const std::string& place : search_folders("KVTOOLS_PROFILES", "profiles")) {
    std::error_code ignored;
    if (fs::path(place).extension() == ".kvp") files.push_back(place);
    std::vector<std::string> inside;
    for (fs::directory_iterator at(place, ignored), end; !ignored && at != end;
         at.increment(ignored)) {
      if (at->path().extension() == ".kvp") inside.push_back(at->path());
    }
    std::sort(inside.begin(), inside.end());
    files.insert(files.end(), inside.begin(), inside.end());
  }
  return files;
}

std::mutex g_mutex;
std::vector<std::shared_ptr<const Profile>> g_added;
std::map<std::string, std::shared_ptr<const Profile>> g_opened;

// A file of the folders is read once a process, whole, and only when its head fits.
std::shared_ptr<const Profile> first_that(const std::function<bool(const ProfileHead&)>& fits) {
  const auto head_of = [](const Profile& profile) {
    return ProfileHead{profile.model, profile.level, profile.hash};
  };
  const std::lock_guard lock(g_mutex);
  for (const auto& profile : g_added) {
    if (fits(head_of(*profile))) return profile;
  }
  for (const std::string& file : candidates()) {
    const auto found = g_opened.find(file);
    if (found != g_opened.end()) {
      if (fits(head_of(*found->second))) return found->second;
    } else if (fits(ProfileHead::read(file))) {
      return g_opened[file] = Profile::open(file);
    }
  }
  return nullptr;
}

}  // namespace

std::shared_ptr<const Profile> find_profile(const ModelIdentity& model, int level) {
  if (model.fingerprint.empty()) return nullptr;
  return first_that([&](const ProfileHead& head) {
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

void add_profile(std::shared_ptr<const Profile> profile) {
  const std::lock_guard lock(g_mutex);
  g_added.insert(g_added.begin(), std::move(profile));
}

std::shared_ptr<const Profile> require_profile(std::uint64_t hash, const std::string& place) {
  auto profile = first_that([&](const ProfileHead& head) { return head.hash == hash; });
  if (!profile) {
    fail_input(
        "{}: needs the profile {:016x}, which is not there; put it in a folder named by "
        "KVTOOLS_PROFILES, or make it again with the kvcalibrate command that made it",
        place, hash);
  }
  return profile;
}

}  // namespace kv
