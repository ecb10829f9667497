#pragma once
// Results by recipe: means over prompts, each counting the same, with 95 % bootstrap intervals.

#include "kv/eval/bootstrap.hh"
#include "kv/eval/results.hh"

#include <array>
#include <optional>
#include <string>
#include <vector>

namespace kv {

// What is compared between recipes, a number a prompt.
enum class Metric { kKld, kTop1, kNll, kF1, kExact };
inline constexpr std::array kMetrics = {Metric::kKld, Metric::kTop1, Metric::kNll, Metric::kF1,
                                        Metric::kExact};
const char* metric_name(Metric metric);  // "kld", "top1", "nll", "f1", "exact"
// +1 where more is worse, -1 where less is.
int worse_sign(Metric metric);
// Of a prompt: the mean KLD a token, the share of tokens that are the same first, the right
// answer's NLL above the full prefill's, F1 and exact match of the answer.
std::optional<double> metric_of(Metric metric, const Result& result, const Result& full);

struct RecipeSummary {
  std::string recipe;                            // "": the full prefill
  std::vector<const Result*> results;            // in the order of Summary::ids
  std::array<std::optional<Interval>, 5> means;  // by Metric; none where nothing is measured
  double kld_p99 = 0;                            // over tokens
  double bytes = 0;                              // means
  double before_s = 0, ttft_s = 0;               // medians
  std::optional<double> computed, flops_share;   // means; share of the full prefill's
  // Beside the recipe that all are held against, on the same prompts; none for that itself.
  std::array<std::optional<Interval>, 5> difference;
  std::optional<Interval> kld_ratio;  // of means; none where the other's is 0

  const std::optional<Interval>& mean(Metric metric) const {
    return means[static_cast<std::size_t>(metric)];
  }
};

struct Summary {
  std::string setup;
  std::vector<std::string> ids;  // of prompts that everything was measured on
  std::int64_t predictions = 0;
  double tokens = 0;  // of a prompt, mean
  std::string versus;
  RecipeSummary full;
  std::vector<RecipeSummary> recipes;
  std::vector<std::vector<std::size_t>> picks;  // of prompts
};

struct SummaryOptions {
  std::string versus;  // a recipe; empty: the first
  std::uint64_t seed = 1;
  std::size_t rounds = 2000;
};

// Of `results`, which outlive it, those of these prompts (fingerprints) and recipes, in their
// order. Prompts that lack one are left out. Throws kUsage when `versus` is none of the recipes,
// kInput when nothing is left.
Summary summarise(const std::vector<Result>& results, const std::vector<std::string>& prompts,
                  const std::vector<std::string>& recipes, const SummaryOptions& options);

// Mean of b - a with its interval; `picks` are of as many.
Interval mean_difference(const std::vector<double>& a, const std::vector<double>& b,
                         const std::vector<std::vector<std::size_t>>& picks);

}  // namespace kv
