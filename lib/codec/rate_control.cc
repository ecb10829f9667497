#include "kv/codec/rate_control.hh"

#include "clp_stream.hh"

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

using Profiles = std::vector<std::shared_ptr<const Profile>>;

double between(double low, double high, double share) {
  constexpr double kLeast = 1e-12;
  return std::exp((1 - share) * std::log(std::max(low, kLeast)) +
                  share * std::log(std::max(high, kLeast)));
}

// Every step inside the profiles' maps.
template <typename Use>
void each_point(const Profiles& profiles, const std::string& place, Use&& use) {
  bool any = false;
  for (const auto& profile : profiles) {
    if (profile->map.empty()) continue;
    any = true;
    const int last = std::min(profile->map.back().step, kMostBaseStep);
    for (int step = std::max(profile->map.front().step, -kMostBaseStep); step <= last; ++step) {
      if (const auto point = expected_at(*profile, step)) use(profile, *point);
    }
  }
  if (!any) {
    fail_input(
        "{}: no profile of its model has a map of quality; make one with kvcalibrate, or give a "
        "--level",
        place);
  }
}

}  // namespace

std::optional<ProfilePoint> expected_at(const Profile& profile, int step) {
  const std::vector<ProfilePoint>& map = profile.map;
  for (std::size_t i = 0; i < map.size(); ++i) {
    if (map[i].step == step) return map[i];
    if (i + 1 == map.size() || map[i].step > step || map[i + 1].step <= step) continue;
    const double share = static_cast<double>(step - map[i].step) /
                         static_cast<double>(map[i + 1].step - map[i].step);
    return ProfilePoint{step, between(map[i].bits, map[i + 1].bits, share),
                        between(map[i].kld, map[i + 1].kld, share)};
  }
  return std::nullopt;
}

ChosenStep step_for_kld(const Profiles& profiles, double kld, const std::string& place) {
  ChosenStep best;
  double least_bits = INFINITY, least_kld = INFINITY;
  each_point(profiles, place, [&](const auto& profile, const ProfilePoint& point) {
    least_kld = std::min(least_kld, point.kld);
    if (point.kld > kld || point.bits >= least_bits) return;
    least_bits = point.bits;
    best = {profile, point.step};
  });
  if (!best.profile) {
    fail_input(
        "{}: a KLD of {:g} is less than what was measured of its model's profiles, {:.2g} "
        "at least; code it with --lossless, or make the profile of a lower level",
        place, kld, least_kld);
  }
  return best;
}

ChosenStep step_for_bits(const Profiles& profiles, double bits, const std::string& place) {
  ChosenStep best;
  double least = INFINITY, most = 0, least_kld = INFINITY;
  each_point(profiles, place, [&](const auto& profile, const ProfilePoint& point) {
    least = std::min(least, point.bits);
    most = std::max(most, point.bits);
    if (point.bits > bits || point.kld >= least_kld) return;
    least_kld = point.kld;
    best = {profile, point.step};
  });
  if (bits < least || bits > most) {
    fail_input(
        "{}: {:g} bits a value are outside of what was measured of its model's profiles, "
        "{:.2f} to {:.2f}",
        place, bits, least, most);
  }
  return best;
}

std::optional<ChosenStep> step_for_level(const Profiles& profiles, int level) {
  if (level < 1 || level >= static_cast<int>(kLevelAims.size())) return std::nullopt;
  std::optional<ChosenStep> best;
  for (const auto& profile : profiles) {
    if (profile->level < 1 || profile->level >= static_cast<int>(kLevelAims.size())) continue;
    const double ratio = kLevelAims[static_cast<std::size_t>(level)].share /
                         kLevelAims[static_cast<std::size_t>(profile->level)].share;
    const int step = static_cast<int>(std::lround(kOctave * std::log2(ratio)));
    if (!best || std::abs(step) < std::abs(best->step)) best = {profile, step};
  }
  return best;
}

}  // namespace kv
