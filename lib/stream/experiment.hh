#pragma once
// Many streams, seeds and schemes through one kind of network: the same paths for every scheme, all
// totals with 95 % confidence intervals over the seeds.

#include "kv/stream/simulate.hh"

#include <string>

namespace kv {

struct ExperimentOptions {
  SimulationOptions simulation;
  std::vector<Scheme> schemes;
  std::uint64_t streams = 60;  // a seed; each has a path of its own
  std::uint64_t seeds = 20;
  std::uint64_t first_seed = 1;
  unsigned threads = 1;  // results do not depend on it
};

// Of a stream's path; linkemu uses it too, so that the same seed is the same outages.
std::uint64_t path_seed(std::uint64_t seed, std::uint64_t stream);

// A mean over seeds and half of its 95 % interval, Student's t; NaN with one seed.
struct Estimate {
  double value = 0, half = 0;
};
Estimate estimate_of(const std::vector<double>& values);

struct SchemeResult {
  Scheme scheme;
  StreamTotals totals;              // of all seeds
  std::vector<StreamTotals> seeds;  // one each
};

// Runs them all. Throws what simulate() throws.
std::vector<SchemeResult> run_experiment(const ExperimentOptions& options);

// How much less `result` stalls than `than`, 1 - ratio, with a jackknife over the seeds, which are
// the same for both; NaN where `than` never stalls.
Estimate reduction(const SchemeResult& result, const SchemeResult& than);

// One stream of the experiment, for a drawing.
Timeline timeline_of(const ExperimentOptions& options, const Scheme& scheme, TimeNs until);

}  // namespace kv
