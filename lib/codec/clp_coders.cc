#include "clp_coders.hh"

#include <algorithm>

namespace kv {

ClpCoders::ClpCoders(std::shared_ptr<const Profile> profile)
    : profile_(std::move(profile)), slots_(std::make_unique<Slot[]>(profile_->tensors.size())) {}

std::shared_ptr<const ClpCoders> ClpCoders::of(const std::shared_ptr<const Profile>& profile) {
  constexpr std::size_t kMost = 4;
  static std::mutex mutex;
  static std::vector<std::shared_ptr<const ClpCoders>> used;  // the last at the end
  const std::lock_guard lock(mutex);
  auto found = std::find_if(used.begin(), used.end(), [&](const auto& coders) {
    return &coders->profile() == profile.get() ||
           (profile->hash != 0 && coders->profile().hash == profile->hash);
  });
  if (found == used.end()) {
    if (used.size() == kMost) used.erase(used.begin());
    used.push_back(std::make_shared<const ClpCoders>(profile));
    found = used.end() - 1;
  }
  std::rotate(found, found + 1, used.end());
  return used.back();
}

const TensorCoder& ClpCoders::coder(const format::TileHeader& tile, std::int64_t channels,
                                    const std::string& place) const {
  const TensorProfile* profile = profile_->find(tile.layer, tile.kind);
  if (!profile || profile->channels != channels) {
    fail_input("{}: profile {:016x} is of another geometry", place, profile_->hash);
  }
  Slot& slot = slots_[static_cast<std::size_t>(profile - profile_->tensors.data())];
  std::call_once(slot.once, [&] { slot.coder.emplace(*profile); });
  return *slot.coder;
}

std::vector<const TileContext*> ClpColumn::context_of(const TensorProfile& profile,
                                                      const std::string& place) const {
  std::vector<const TileContext*> context;
  for (const ContextSource& source : profile.context) {
    const auto found = contexts_.find({profile.layer - source.layers_back, source.kind});
    if (found == contexts_.end()) {
      fail_input(
          "{}: needs layer {} {} of the same tokens, which is not there; decode the file that it "
          "was cut from (kvdecode --layers)",
          place, profile.layer - source.layers_back, static_cast<char>(source.kind));
    }
    context.push_back(&found->second);
  }
  return context;
}

TileContext& ClpColumn::add(std::uint32_t layer, format::Kind kind) {
  TileContext& context = contexts_[{layer, kind}];
  if (!spare_.empty()) {
    context = std::move(spare_.back());
    spare_.pop_back();
  }
  return context;
}

void ClpColumn::forget(std::uint32_t layer) {
  constexpr std::uint32_t kMostBack = 2;
  for (auto at = contexts_.begin(); at != contexts_.end();) {
    if (at->first.first + kMostBack >= layer + 1) {
      ++at;
      continue;
    }
    spare_.push_back(std::move(at->second));
    at = contexts_.erase(at);
  }
}

}  // namespace kv
