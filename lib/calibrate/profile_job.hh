#pragma once
// All that makes the profiles of a model from its samples: fit, measure what errors do, fit again
// at each level, measure what came of it.

#include "kv/calibrate/samples.hh"
#include "kv/codec/profile.hh"

#include <functional>
#include <string>
#include <vector>

namespace kv {

struct ProfileJobOptions {
  std::vector<int> levels = {2};
  int restart = 0, layers_back = 1;
  int margin = 0;           // of classes, for caches of texts unlike the samples
  bool sensitivity = true;  // measured; else steps go by the spread of each tensor
  bool map = true;          // measured, where windows are held out
  std::string made_from, work_dir;
  std::function<void(const std::string&)> on_phase;
  std::function<void(double)> on_work;  // as much as profile_work() counts
};

// How much work it is, in what a token of prefill takes; where every part was there already, less.
double profile_work(std::int64_t tokens, std::size_t fitted, std::size_t held_out,
                    const ProfileJobOptions& options);

// `on_profile` gets each level's as soon as it is made, and its bits a value of the samples.
// What errors do is kept in work_dir: another run with the same samples does not measure it again.
void make_profiles(const Session& session, const Samples& samples, const ProfileJobOptions& options,
                   const std::function<void(Profile&, double)>& on_profile);

}  // namespace kv
