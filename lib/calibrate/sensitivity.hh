#pragma once
// What errors of a tensor do to the model's answers, measured: noise like the codec's is put into
// one tensor of a cache at a time, and the next-token distributions of the text that follows are
// compared. Direct, where a gradient would only say what infinitely small errors do.

#include "kv/calibrate/calibrate.hh"

#include <functional>

namespace kv {

struct SensitivityOptions {
  std::size_t windows = 4;          // of the samples
  std::int64_t continuation = 128;  // tokens at their ends that are compared
  std::uint64_t seed = 1;
  bool even = false;  // errors alike in all tokens, as where no importance is known
  std::function<void()> on_tensor;
};

// By tensor: nats a token (Kullback-Leibler, mean) for errors at the profile's steps and those of
// the tokens' importance, over the share of coefficients whose bits a finer step costs. It goes
// with the square of the step.
StepTable measure_sensitivity(const Session& session, const Samples& samples,
                              const Profile& profile, const SensitivityOptions& options);

// Eighths of an octave at which a bit gains as much when errors are even as at the profile's steps
// when they are not, for TensorProfile::even_step.
int even_step(double divergence, double even);

// Steps at which a further bit gains the same in every tensor, by `divergence` of the measure
// above, which goes with the square of the step. `share` multiplies them all.
StepTable balanced_steps(const StepTable& steps, const StepTable& divergence, double share);

}  // namespace kv
