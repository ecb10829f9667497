#pragma once
// Which profile and step a wish comes to: by the maps that kvcalibrate measured.

#include "kv/codec/profile.hh"

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kv {

// By level, 1 to 4: steps beside those that weigh alike, and the divergence that is aimed at.
struct LevelAim {
  double share = 0, kld = 0;
};
inline constexpr std::array<LevelAim, 5> kLevelAims = {
    {{}, {0.7, 0.0005}, {1.5, 0.002}, {2.8, 0.01}, {4.6, 0.035}}};

// A profile, and eighths of an octave beside its own step.
struct ChosenStep {
  std::shared_ptr<const Profile> profile;
  int step = 0;
};

// From the profile's map, between its points by logarithms; nothing outside of them.
std::optional<ProfilePoint> expected_at(const Profile& profile, int step);

// The smallest file whose mapped divergence is `kld` or less. Throws kInput, with `place`, when
// there is no map or no point is as good.
ChosenStep step_for_kld(const std::vector<std::shared_ptr<const Profile>>& profiles, double kld,
                        const std::string& place);
// The best quality whose mapped size is `bits` a value or less. Throws kInput when there is no map,
// and when `bits` is outside of what was measured.
ChosenStep step_for_bits(const std::vector<std::shared_ptr<const Profile>>& profiles, double bits,
                         const std::string& place);
// For a level of which there is no profile: another level's, its step moved by as much as the
// levels' steps differ. Nothing when there is none at all.
std::optional<ChosenStep> step_for_level(
    const std::vector<std::shared_ptr<const Profile>>& profiles, int level);

}  // namespace kv
