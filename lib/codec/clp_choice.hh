#pragma once
// Which profile and step a member is coded with by the codec `clp`. Private to the folder.

#include "kv/codec/rate_control.hh"
#include "kv/codec/transcode.hh"

#include <set>

namespace kv {

// Tells each thing once, to whoever wants to know.
class Notes {
 public:
  explicit Notes(const std::function<void(const std::string&)>& tell) : tell_(tell) {}
  // `about` is what is told but once; it may lack the place.
  void add(const std::string& place, const std::string& about) {
    if (tell_ && told_.insert(about).second) tell_(place + ": " + about);
  }

 private:
  const std::function<void(const std::string&)>& tell_;
  std::set<std::string> told_;
};

// Those that were asked for, or those that the maps give. Without a profile where there is none and
// the member is to be coded otherwise then; throws kInput, with the command that makes one, where
// it is not, and where maps are asked for what they do not have.
ChosenStep choose_step(const Meta& meta, const ClpOptions& options, bool otherwise, Notes& notes,
                       const std::string& place);

// What META says of the coding: with the step, and the divergence where the map has it.
std::string codec_text(const ChosenStep& chosen);

// Notes when a member took far more bits a value than the map has for the step: its text is unlike
// those of the calibration.
void check_drift(const ChosenStep& chosen, double bits, Notes& notes, const std::string& place);

}  // namespace kv
