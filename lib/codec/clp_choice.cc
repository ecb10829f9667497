#include "clp_choice.hh"

#include "clp_stream.hh"
#include "kv/codec/profiles.hh"

#include <algorithm>

namespace kv {
namespace {

std::string why_no_profile(const Meta& meta, int level) {
  if (meta.rope_applied) return "keys have RoPE applied; import it again without";
  return fmt::format(
      "no profile of model '{}' for level {}; make it: kvcalibrate -m {} -l {} TEXT... -o "
      "FILE.kvp, and name its folder in KVTOOLS_PROFILES",
      meta.model.name, level, meta.model.name, level);
}

void require_model(const Profile& profile, const Meta& meta, const std::string& place) {
  if (profile.model.fingerprint == meta.model.fingerprint) return;
  fail_input("{}: of model '{}' ({}), the profile is of '{}' ({})", place, meta.model.name,
             meta.model.fingerprint, profile.model.name, profile.model.fingerprint);
}

// Of the profile that was given, else of those that are found.
std::optional<ChosenStep> find_step(const Meta& meta, const ClpOptions& options, Notes& notes,
                                    const std::string& place) {
  if (options.profile && !options.max_kld && !options.max_bits) {
    return ChosenStep{options.profile, options.base_step};
  }
  if (!options.max_kld && !options.max_bits) {
    if (auto exact = find_profile(meta.model, options.level)) {
      return ChosenStep{std::move(exact), options.base_step};
    }
  }
  const auto found = options.profile ? std::vector{options.profile} : find_profiles(meta.model);
  if (found.empty()) return std::nullopt;
  if (options.max_kld) return step_for_kld(found, *options.max_kld, place);
  if (options.max_bits) return step_for_bits(found, *options.max_bits, place);
  auto other = step_for_level(found, options.level);
  if (!other) return std::nullopt;
  other->step = std::clamp(other->step + options.base_step, -kMostBaseStep, kMostBaseStep);
  notes.add(place,
            fmt::format("no profile of level {}; that of level {} with step {} does it in a few "
                        "more bits",
                        options.level, other->profile->level, other->step));
  return other;
}

}  // namespace

ChosenStep choose_step(const Meta& meta, const ClpOptions& options, bool otherwise, Notes& notes,
                       const std::string& place) {
  std::optional<ChosenStep> step;
  if (!meta.rope_applied) {
    if (options.profile) require_model(*options.profile, meta, place);
    step = find_step(meta, options, notes, place);
  }
  if (step) return *step;
  const std::string why = why_no_profile(meta, options.level);
  if (!otherwise) fail_input("{}: {}", place, why);
  notes.add(place, "coded as ecsq, in more bits than with a profile: " + why);
  return {};
}

std::string codec_text(const ChosenStep& chosen) {
  std::string text = fmt::format("clp level={} step={}", chosen.profile->level, chosen.step);
  if (const auto expected = expected_at(*chosen.profile, chosen.step)) {
    text += fmt::format(" kld={:.2g}", expected->kld);
  }
  return text;
}

void check_drift(const ChosenStep& chosen, double bits, Notes& notes, const std::string& place) {
  constexpr double kFar = 1.5;
  const auto expected = expected_at(*chosen.profile, chosen.step);
  if (!expected || !(bits > kFar * expected->bits)) return;
  notes.add(place, fmt::format("{:.2f} bits a value, {:.2f} expected: it is unlike the texts that "
                               "the profile was made from",
                               bits, expected->bits));
}

}  // namespace kv
