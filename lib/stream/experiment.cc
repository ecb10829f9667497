#include "kv/stream/experiment.hh"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <limits>
#include <mutex>
#include <numeric>
#include <thread>

namespace kv {
namespace {

// The 97.5 % quantile of Student's t, n degrees of freedom.
double student(std::size_t n) {
  constexpr std::array kTable = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                                 2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
                                 2.110,  2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064,
                                 2.060,  2.056, 2.052, 2.048, 2.045, 2.042};
  if (n <= kTable.size()) return kTable[n - 1];
  const double z = 1.959964, x = static_cast<double>(n);
  return z + (z * z * z + z) / (4 * x);  // within 0.001 from here on
}

}  // namespace

std::uint64_t path_seed(std::uint64_t seed, std::uint64_t stream) {
  return mix64(mix64(seed) + stream);
}

Estimate estimate_of(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  Estimate estimate;
  estimate.value = std::accumulate(values.begin(), values.end(), 0.0) / n;
  if (values.size() < 2) {
    estimate.half = std::numeric_limits<double>::quiet_NaN();
    return estimate;
  }
  double squares = 0;
  for (const double value : values) {
    squares += (value - estimate.value) * (value - estimate.value);
  }
  estimate.half = student(values.size() - 1) * std::sqrt(squares / (n - 1) / n);
  return estimate;
}

std::vector<SchemeResult> run_experiment(const ExperimentOptions& o) {
  std::vector<SchemeResult> results;
  const StreamTotals empty(o.simulation.thresholds);
  for (const Scheme& scheme : o.schemes) {
    results.push_back({scheme, empty, std::vector<StreamTotals>(o.seeds, empty)});
  }
  // A job is a scheme, a seed and a stream. Totals are whole numbers: any order gives the same sum.
  const std::uint64_t per_scheme = o.seeds * o.streams;
  std::atomic<std::uint64_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&] {
    for (std::uint64_t job; (job = next++) < per_scheme * o.schemes.size();) {
      SchemeResult& result = results[job / per_scheme];
      const std::uint64_t seed = job % per_scheme / o.streams;
      try {
        const StreamTotals totals =
            simulate(o.simulation, result.scheme, path_seed(o.first_seed + seed, job % o.streams));
        const std::lock_guard lock(mutex);
        result.seeds[seed].merge(totals);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        next = per_scheme * o.schemes.size();
      }
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < o.threads; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
  for (SchemeResult& result : results) {
    for (const StreamTotals& seed : result.seeds) result.totals.merge(seed);
  }
  return results;
}

Estimate reduction(const SchemeResult& result, const SchemeResult& than) {
  const auto without = [&](std::size_t left_out) {
    double ours = 0, theirs = 0;
    for (std::size_t i = 0; i < result.seeds.size(); ++i) {
      if (i == left_out) continue;
      ours += result.seeds[i].shown.ratio(0);
      theirs += than.seeds[i].shown.ratio(0);
    }
    return theirs > 0 ? 1 - ours / theirs : std::numeric_limits<double>::quiet_NaN();
  };
  const std::size_t n = result.seeds.size();
  std::vector<double> values;
  for (std::size_t i = 0; i < n; ++i) values.push_back(without(i));
  Estimate estimate{without(n), std::numeric_limits<double>::quiet_NaN()};
  if (n < 2) return estimate;
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(n);
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  estimate.half =
      student(n - 1) * std::sqrt(squares * static_cast<double>(n - 1) / static_cast<double>(n));
  return estimate;
}

Timeline timeline_of(const ExperimentOptions& o, const Scheme& scheme, TimeNs until) {
  Timeline timeline;
  timeline.until = until;
  SimulationOptions simulation = o.simulation;
  simulate(simulation, scheme, path_seed(o.first_seed, 0), &timeline);
  return timeline;
}

}  // namespace kv
