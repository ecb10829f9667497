#pragma once
// Finding profiles: in $KVTOOLS_PROFILES (files or folders), then where search_folders() looks for
// "profiles". Files are named *.kvp.

#include "kv/codec/profile.hh"

#include <memory>
#include <string>

namespace kv {

// Of a model and level; null when there is none.
std::shared_ptr<const Profile> find_profile(const ModelIdentity& model, int level);
// The one that a stream names. Throws kInput, with `place` and the command that makes it.
std::shared_ptr<const Profile> require_profile(std::uint64_t hash, const std::string& place);

}  // namespace kv
