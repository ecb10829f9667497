#pragma once
// What a tuner keeps from step to step. Private to the folder.

#include "kv/tune/tune.hh"

namespace kv {

struct Tuner::State {
  struct Moments {
    at::Tensor value;         // the matrix itself
    at::Tensor mean, square;  // of its gradient, as Adam has them
  };

  LoraModel& model;
  const std::vector<TrainingText>& texts;
  TuneOptions options;
  BatchOrder order;
  std::int64_t done = 0;
  std::vector<Moments> moments;  // A and B of each pair, in the model's order

  State(LoraModel& of, const std::vector<TrainingText>& from, const TuneOptions& chosen)
      : model(of), texts(from), options(chosen), order(from.size(), chosen.batch, chosen.seed) {}
  void update(TuneStep& report);
  // What must be the same in a run that goes on.
  std::string description(const std::string& base_fingerprint) const;
};

}  // namespace kv
