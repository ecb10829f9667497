// Where profiles are found, of both codecs that have them.

#include "kv/codec/profiles.hh"

#include "cachegen_samples.hh"
#include "clp_samples.hh"
#include "lossy_samples.hh"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace {

namespace fs = std::filesystem;
using namespace kv;

// A folder that goes away, and the only place where profiles are looked for.
class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / fmt::format("kv_profiles_{}", getpid())) {
    fs::remove_all(path_);
    fs::create_directories(path_);
    setenv("KVTOOLS_PROFILES", path_.c_str(), 1);
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string put(const std::string& name, ByteView bytes) const {
    Output output = Output::create((path_ / name).string(), true);
    output.write(bytes);
    output.commit();
    return (path_ / name).string();
  }

 private:
  fs::path path_;
};

Profile clp_profile(int level, const std::string& made_from) {
  Profile profile = *test::make_profile();
  profile.level = level;
  profile.made_from = made_from;
  profile.model.fingerprint = std::string(32, 'b');
  return profile;
}

}  // namespace

TEST_CASE("profiles of clp are found by model and level, the first by name, or by their hash") {
  const Folder folder;
  Profile first = clp_profile(2, "first"), second = clp_profile(2, "second"),
          other = clp_profile(3, "third");
  folder.put("b.kvp", second.to_bytes());
  folder.put("a.kvp", first.to_bytes());
  folder.put("c.kvp", other.to_bytes());
  folder.put("a.txt", as_bytes("no profile, and none by its name"));
  CHECK(find_profile(first.model, 2)->hash == first.hash);
  CHECK(find_profile(first.model, 3)->hash == other.hash);
  CHECK(find_profile(first.model, 4) == nullptr);
  CHECK(find_profile({}, 2) == nullptr);  // models without a fingerprint are not alike
  CHECK(require_profile(second.hash, "here")->made_from == "second");
  CHECK_THROWS_WITH_AS(require_profile(1, "here"), doctest::Contains("KVTOOLS_PROFILES"), Error);
  // One that was added comes before all of them.
  Profile added = clp_profile(3, "added");
  add_profile(Profile::from_bytes(added.to_bytes(), "added"));
  CHECK(find_profile(first.model, 3)->made_from == "added");
  // What is reached before and is no profile is an error.
  folder.put("0.kvp", as_bytes("no profile"));
  CHECK_THROWS_WITH_AS(find_profile(first.model, 2), doctest::Contains("0.kvp"), Error);
}

TEST_CASE("profiles of cachegen are found by their hash, under any name") {
  const Folder folder;
  const Meta narrow = samples::lossy_meta(1, DType::kBF16, 3, 2), wide = samples::lossy_meta(1);
  const CacheGenProfile a = samples::plain_profile(narrow, false);
  const CacheGenProfile b = samples::plain_profile(wide, true);
  folder.put("some.kvprofile", a.bytes());
  const std::string path = folder.put("zz.kvprofile", b.bytes());
  folder.put("no.kvprofile", as_bytes("no profile"));
  CHECK(find_cachegen_profile(a.hash(), "here")->tensors().size() == a.tensors().size());
  CHECK(find_cachegen_profile(b.hash(), "here")->rotated());
  CHECK(find_cachegen_profile(b.hash(), "here") == find_cachegen_profile(b.hash(), "here"));
  CHECK_THROWS_WITH_AS(find_cachegen_profile(5, "here"),
                       doctest::Contains("0000000000000005.kvprofile"), Error);
  // A file by its name; from then on it is known wherever it lies.
  setenv("KVTOOLS_PROFILES", path.c_str(), 1);
  CHECK(find_cachegen_profile(b.hash(), "here")->rotated());
  CHECK_THROWS_AS(find_cachegen_profile(a.hash(), "here"), Error);
  CHECK(read_cachegen_profile(path)->hash() == b.hash());
  setenv("KVTOOLS_PROFILES", "", 1);
  CHECK(find_cachegen_profile(b.hash(), "here")->rotated());
}
