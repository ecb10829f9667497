#pragma once
// The measured map of a profile: what its steps cost and do, on windows that it was not fitted on.

#include "kv/calibrate/samples.hh"
#include "kv/codec/profile.hh"

#include <functional>
#include <memory>
#include <vector>

namespace kv {

struct MapOptions {
  std::vector<int> steps = {-8, -4, 0, 4, 8};  // eighths of an octave, ascending
  std::int64_t continuation = 128;             // tokens at a window's end that are predicted
  std::string work_dir;                        // of one coded file at a time
  int threads = 1;
  std::function<void()> on_point;  // of a window
};

// Codes the windows that are held out as kvencode does, all bytes counted, and compares the
// predictions of their ends with those behind the raw cache. Empty when none is held out.
std::vector<ProfilePoint> measure_map(const Session& session, const Samples& samples,
                                      const std::shared_ptr<const Profile>& profile,
                                      const MapOptions& options);

}  // namespace kv
