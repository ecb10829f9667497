#pragma once
// Finding profiles of the codec `clp`, files *.kvp: in $KVTOOLS_PROFILES (files or folders), then
// where search_folders() looks for "profiles".

#include "kv/codec/profile.hh"

#include <memory>
#include <string>
#include <vector>

namespace kv {

// Of a model and level; null when there is none.
std::shared_ptr<const Profile> find_profile(const ModelIdentity& model, int level);
// Of a model, one for each level that is found, by level.
std::vector<std::shared_ptr<const Profile>> find_profiles(const ModelIdentity& model);
// The one that a stream names. Throws kInput, with `place` and the command that makes it.
std::shared_ptr<const Profile> require_profile(std::uint64_t hash, const std::string& place);
// One that lies nowhere yet: from now on the first that is found, for the rest of the process.
void add_profile(std::shared_ptr<const Profile> profile);

}  // namespace kv
