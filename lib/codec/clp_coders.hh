#pragma once
// What tiles of the codec `clp` are coded with: a profile's tensors, and the tiles before them.
// Private to the folder.

#include "clp_tensor.hh"
#include "kv/container/format.hh"

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace kv {

// A profile's tensors made ready, each when it is first used. Threads may share it.
class ClpCoders {
 public:
  explicit ClpCoders(std::shared_ptr<const Profile> profile);
  // The process's own, of the few profiles that were used last: members share them.
  static std::shared_ptr<const ClpCoders> of(const std::shared_ptr<const Profile>& profile);
  const Profile& profile() const { return *profile_; }
  // Throws kInput, with `place`, when the profile has no such tensor or another geometry.
  const TensorCoder& coder(const format::TileHeader& tile, std::int64_t channels,
                           const std::string& place) const;

 private:
  struct Slot {
    std::once_flag once;
    std::optional<TensorCoder> coder;
  };
  std::shared_ptr<const Profile> profile_;
  std::unique_ptr<Slot[]> slots_;  // of profile_->tensors
};

// Contexts of the tiles that begin at one token.
class ClpColumn {
 public:
  std::vector<const TileContext*> context_of(const TensorProfile& profile,
                                             const std::string& place) const;
  TileContext& add(std::uint32_t layer, format::Kind kind);
  // What layers after this one do not use any more.
  void forget(std::uint32_t layer);

 private:
  std::map<std::pair<std::uint32_t, format::Kind>, TileContext> contexts_;
  std::vector<TileContext> spare_;  // whose memory serves again
};

}  // namespace kv
