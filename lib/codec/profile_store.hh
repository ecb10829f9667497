#pragma once
// The one lookup of profiles, of whatever codec: kvprofile(5), "FILES". Private to the folder.

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace kv {

// Files of that extension that are named by KVTOOLS_PROFILES or lie where search_folders() looks
// for "profiles", in the order of FILES.
std::vector<std::string> profile_files(const std::string& extension);

// `Files` says how the profiles of one codec are told apart:
//   Profile; kExtension; std::shared_ptr<const Profile> open(path)
//   Head, what a lookup goes by; Head head_of(const Profile&); Head read_head(path)
// Both ways of getting a head give the same of one profile. From any thread.
template <typename Files>
class ProfileStore {
 public:
  using Pointer = std::shared_ptr<const typename Files::Profile>;
  using Fits = std::function<bool(const typename Files::Head&)>;

  // One that may lie nowhere: from now on it comes before all others.
  void add(Pointer profile) {
    const std::lock_guard lock(mutex_);
    added_.insert(added_.begin(), std::move(profile));
  }

  // The first that fits; null: none does. A file is read once, and whole only when its head fits.
  Pointer first_that(const Fits& fits) {
    const std::lock_guard lock(mutex_);
    for (const Pointer& profile : added_) {
      if (fits(Files::head_of(*profile))) return profile;
    }
    for (const std::string& path : profile_files(Files::kExtension)) {
      auto file = files_.find(path);
      if (file == files_.end()) file = files_.emplace(path, File{Files::read_head(path), {}}).first;
      if (!fits(file->second.head)) continue;
      Pointer& profile = file->second.profile;
      if (!profile) profile = Files::open(path);
      return profile;
    }
    return nullptr;
  }

 private:
  struct File {
    typename Files::Head head;
    Pointer profile;  // null: not yet
  };
  std::mutex mutex_;
  std::vector<Pointer> added_;
  std::map<std::string, File> files_;
};

}  // namespace kv
