#include "kv/eval/summary.hh"

#include "kv/base/error.hh"

#include <algorithm>
#include <map>
#include <numeric>

namespace kv {
namespace {

using Picks = std::vector<std::vector<std::size_t>>;
using Values = std::vector<double>;

double mean_of(const Values& values) {
  return values.empty() ? 0
                        : std::accumulate(values.begin(), values.end(), 0.0) /
                              static_cast<double>(values.size());
}

double mean_over(const Values& values, std::span<const std::size_t> picked) {
  double sum = 0;
  for (const std::size_t i : picked) sum += values[i];
  return sum / static_cast<double>(picked.size());
}

// A number a prompt, or nothing where any has none.
std::optional<Values> values_of(Metric metric, const RecipeSummary& recipe,
                                const RecipeSummary& full) {
  Values values;
  for (std::size_t i = 0; i < recipe.results.size(); ++i) {
    const std::optional<double> value = metric_of(metric, *recipe.results[i], *full.results[i]);
    if (!value) return std::nullopt;
    values.push_back(*value);
  }
  return values;
}

std::optional<double> mean_if_known(const std::vector<const Result*>& results,
                                    std::optional<double> Result::*field) {
  Values values;
  for (const Result* result : results) {
    if (!(result->*field)) return std::nullopt;
    values.push_back(*(result->*field));
  }
  return mean_of(values);
}

void fill(RecipeSummary& own, const RecipeSummary& full, const Picks& picks) {
  for (const Metric metric : kMetrics) {
    if (const std::optional<Values> values = values_of(metric, own, full)) {
      own.means[static_cast<std::size_t>(metric)] = *bootstrap(
          picks, values->size(),
          [&](std::span<const std::size_t> picked) { return mean_over(*values, picked); });
    }
  }
  Values klds, bytes, before, ttft;
  for (const Result* result : own.results) {
    klds.insert(klds.end(), result->kld.begin(), result->kld.end());
    bytes.push_back(static_cast<double>(result->bytes));
    before.push_back(result->before_s);
    ttft.push_back(result->ttft_s);
  }
  own.kld_p99 = quantile(klds, 0.99);
  own.bytes = mean_of(bytes);
  own.before_s = quantile(before, 0.5);
  own.ttft_s = quantile(ttft, 0.5);
  own.computed = mean_if_known(own.results, &Result::computed);
  const auto flops = mean_if_known(own.results, &Result::flops);
  const auto of_full = mean_if_known(full.results, &Result::flops);
  if (flops && of_full && *of_full > 0) own.flops_share = *flops / *of_full;
}

void hold_against(RecipeSummary& own, const RecipeSummary& other, const RecipeSummary& full,
                  const Picks& picks) {
  for (const Metric metric : kMetrics) {
    const auto a = values_of(metric, other, full), b = values_of(metric, own, full);
    if (a && b) own.difference[static_cast<std::size_t>(metric)] = mean_difference(*a, *b, picks);
  }
  const Values a = *values_of(Metric::kKld, other, full), b = *values_of(Metric::kKld, own, full);
  own.kld_ratio =
      bootstrap(picks, a.size(), [&](std::span<const std::size_t> picked) -> std::optional<double> {
        const double base = mean_over(a, picked);
        if (base <= 0) return std::nullopt;
        return mean_over(b, picked) / base;
      });
}

}  // namespace

const char* metric_name(Metric metric) {
  constexpr std::array kNames = {"kld", "top1", "nll", "f1", "exact"};
  return kNames[static_cast<std::size_t>(metric)];
}

int worse_sign(Metric metric) { return metric == Metric::kKld || metric == Metric::kNll ? 1 : -1; }

std::optional<double> metric_of(Metric metric, const Result& result, const Result& full) {
  switch (metric) {
    case Metric::kKld:
      return mean_of(result.kld);
    case Metric::kTop1:
      return static_cast<double>(result.same_top) / static_cast<double>(result.kld.size());
    case Metric::kNll:
      if (!result.nll || !full.nll) return std::nullopt;
      return *result.nll - *full.nll;
    case Metric::kF1:
      return result.f1;
    case Metric::kExact:
      return result.exact;
  }
  return std::nullopt;
}

Interval mean_difference(const Values& a, const Values& b, const Picks& picks) {
  Values difference(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) difference[i] = b[i] - a[i];
  return *bootstrap(picks, a.size(), [&](std::span<const std::size_t> picked) {
    return mean_over(difference, picked);
  });
}

Summary summarise(const std::vector<Result>& results, const std::vector<std::string>& prompts,
                  const std::vector<std::string>& recipes, const SummaryOptions& options) {
  std::map<std::pair<std::string, std::string>, const Result*> found;
  for (const Result& result : results) found[{result.prompt, result.recipe}] = &result;
  Summary summary;
  summary.versus = options.versus.empty() ? recipes.front() : options.versus;
  for (const std::string& recipe : recipes) summary.recipes.push_back({.recipe = recipe});
  for (const std::string& prompt : prompts) {
    std::vector<const Result*> row;
    for (const std::string& recipe : recipes) {
      if (const auto at = found.find({prompt, recipe}); at != found.end())
        row.push_back(at->second);
    }
    const auto full = found.find({prompt, ""});
    if (row.size() < recipes.size() || full == found.end()) continue;
    summary.ids.push_back(full->second->id);
    summary.setup = full->second->setup;
    summary.full.results.push_back(full->second);
    summary.predictions += static_cast<std::int64_t>(full->second->kld.size());
    summary.tokens += static_cast<double>(full->second->tokens);
    for (std::size_t i = 0; i < row.size(); ++i) summary.recipes[i].results.push_back(row[i]);
  }
  if (summary.ids.empty()) fail_input("-: no prompt was measured with all recipes");
  summary.tokens /= static_cast<double>(summary.ids.size());
  summary.picks = bootstrap_picks(summary.ids.size(), options.rounds, options.seed);
  fill(summary.full, summary.full, summary.picks);
  const RecipeSummary* other = nullptr;
  for (RecipeSummary& own : summary.recipes) {
    fill(own, summary.full, summary.picks);
    if (own.recipe == summary.versus && !other) other = &own;
  }
  if (!other) fail_usage("--versus '{}': not among the recipes", summary.versus);
  for (RecipeSummary& own : summary.recipes) {
    if (&own != other) hold_against(own, *other, summary.full, summary.picks);
  }
  return summary;
}

}  // namespace kv
