#pragma once
// A profile from samples: layer by layer in the closed loop, each tensor fitted on what a decoder
// will have of the ones before it.

#include "kv/calibrate/samples.hh"
#include "kv/codec/profile.hh"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace kv {

// Steps by (layer, kind).
using StepTable = std::map<std::pair<std::uint32_t, format::Kind>, double>;

struct CalibrateOptions {
  int level = 2;
  StepTable steps;               // of each tensor
  int restart = 0;               // every so many layers nothing is predicted from before; 0: never
  int layers_back = 1;           // that a prediction uses
  std::size_t windows = 0;       // of the samples, from the first; 0: all that are fitted
  int margin = 0;                // places by which classes are wider than those of the samples
  double metric_epsilon = 0.03;  // of the query metric; 1e6: errors of keys weigh alike
  std::string made_from;
  std::function<void()> on_tensor;
};

struct CalibrateResult {
  Profile profile;
  double bits = 0;  // a value, over the samples, without container
};

CalibrateResult calibrate(const Samples& samples, const CalibrateOptions& options);

// Steps of `share` of each tensor's root mean square beside its mean.
StepTable steps_from_rms(const Samples& samples, double share);

}  // namespace kv
