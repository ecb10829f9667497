#pragma once
// What a recipe must not do, and whether it did.

#include "kv/eval/summary.hh"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kv {

struct Limits {  // those set are checked, for every recipe
  std::optional<double> max_kld, max_kld_p99, min_top1, max_nll, min_f1;
  std::optional<double> max_kld_ratio;  // to the recipe that others are held against
  std::optional<double> max_bytes, max_ttft_s;
};

struct Check {
  std::string recipe, name;  // "max-kld", "baseline: top1"
  bool passed = true;
  std::string said;  // "0.0834, at most 0.05"
};

// A value that is not known, or no number, is not within its limit.
std::vector<Check> check_limits(const Summary& summary, const Limits& limits);

// What a report of before says of each prompt.
struct Baseline {
  std::string setup;
  std::map<std::string, std::map<std::string, std::array<std::optional<double>, 5>>> recipes;
};
// A report of kveval --json. Throws kInput.
Baseline read_baseline(const std::string& path);

// A check a recipe and metric, on the prompts that both have: failed where the mean became worse,
// the 95 % interval of the paired difference excludes 0, and the difference is more than 1 % of
// what it was and than 1e-4: a different processor rounds differently. Throws kInput where the two
// have no recipe or, of one, no prompt in common, or were made with another model or other options.
std::vector<Check> check_baseline(const Summary& summary, const Baseline& baseline,
                                  std::uint64_t seed);

}  // namespace kv
