#include "kv/eval/checks.hh"

#include "kv/base/file.hh"
#include "kv/base/json.hh"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxReportBytes = 1u << 30;
constexpr int kMaxDepth = 64;
constexpr double kShare = 0.01, kLeast = 1e-4;

void at_most(std::vector<Check>& checks, const RecipeSummary& own, const char* name,
             const std::optional<double>& value, const std::optional<double>& limit) {
  if (!limit) return;
  checks.push_back(
      {own.recipe, name, value && *value <= *limit,
       fmt::format("{}, at most {}", value ? fmt::format("{:.6g}", *value) : "unknown", *limit)});
}

void at_least(std::vector<Check>& checks, const RecipeSummary& own, const char* name,
              const std::optional<double>& value, const std::optional<double>& limit) {
  if (!limit) return;
  checks.push_back(
      {own.recipe, name, value && *value >= *limit,
       fmt::format("{}, at least {}", value ? fmt::format("{:.6g}", *value) : "unknown", *limit)});
}

std::optional<double> value_of(const std::optional<Interval>& interval) {
  return interval ? std::optional(interval->value) : std::nullopt;
}

struct Paired {
  std::vector<double> before, now;
};

Paired paired(Metric metric, const RecipeSummary& own, const Summary& summary,
              const std::map<std::string, std::array<std::optional<double>, 5>>& before) {
  Paired values;
  for (std::size_t i = 0; i < summary.ids.size(); ++i) {
    const auto found = before.find(summary.ids[i]);
    if (found == before.end()) continue;
    const std::optional<double> was = found->second[static_cast<std::size_t>(metric)];
    const std::optional<double> is = metric_of(metric, *own.results[i], *summary.full.results[i]);
    if (!was || !is) continue;
    values.before.push_back(*was);
    values.now.push_back(*is);
  }
  return values;
}

Check compared(Metric metric, const RecipeSummary& own, const Paired& values, std::uint64_t seed) {
  const Interval change =
      mean_difference(values.before, values.now, bootstrap_picks(values.now.size(), 2000, seed));
  double was = 0;
  for (const double value : values.before) was += value / static_cast<double>(values.before.size());
  const double worse = worse_sign(metric) * change.value;
  const double surely = worse_sign(metric) > 0 ? change.low : -change.high;
  const bool regressed = surely > 0 && worse > std::max(kLeast, kShare * std::abs(was));
  return {own.recipe, fmt::format("baseline: {}", metric_name(metric)), !regressed,
          fmt::format("{:.6g} before, {:+.6g} [{:+.6g}, {:+.6g}] now, {} prompts", was,
                      change.value, change.low, change.high, values.now.size())};
}

}  // namespace

std::vector<Check> check_limits(const Summary& summary, const Limits& limits) {
  std::vector<Check> checks;
  for (const RecipeSummary& own : summary.recipes) {
    at_most(checks, own, "max-kld", value_of(own.mean(Metric::kKld)), limits.max_kld);
    at_most(checks, own, "max-kld-p99", own.kld_p99, limits.max_kld_p99);
    if (own.recipe != summary.versus) {
      at_most(checks, own, "max-kld-ratio", value_of(own.kld_ratio), limits.max_kld_ratio);
    }
    at_least(checks, own, "min-top1", value_of(own.mean(Metric::kTop1)), limits.min_top1);
    at_most(checks, own, "max-nll", value_of(own.mean(Metric::kNll)), limits.max_nll);
    at_least(checks, own, "min-f1", value_of(own.mean(Metric::kF1)), limits.min_f1);
    at_most(checks, own, "max-bytes", own.bytes, limits.max_bytes);
    at_most(checks, own, "max-ttft", own.ttft_s, limits.max_ttft_s);
  }
  return checks;
}

Baseline read_baseline(const std::string& path) {
  const Bytes bytes = Input::open(path).read_all(kMaxReportBytes);
  const std::string_view text = as_text(bytes);
  const char* what = "not a report of kveval --json";
  if (json_too_deep(text, kMaxDepth)) fail_input("{}: {}", path, what);
  try {
    const json report = json::parse(text);
    Baseline baseline{report.at("setup").get<std::string>(), {}};
    for (const json& recipe : report.at("recipes")) {
      auto& prompts = baseline.recipes[recipe.at("recipe").get<std::string>()];
      for (const json& prompt : recipe.at("prompts")) {
        auto& values = prompts[prompt.at("id").get<std::string>()];
        for (const Metric metric : kMetrics) {
          const json& value = prompt.at(metric_name(metric));
          if (!value.is_null()) values[static_cast<std::size_t>(metric)] = value.get<double>();
        }
      }
    }
    return baseline;
  } catch (const json::exception& error) {
    fail_input("{}: {}: {}", path, what, error.what());
  }
}

std::vector<Check> check_baseline(const Summary& summary, const Baseline& baseline,
                                  std::uint64_t seed) {
  if (baseline.setup != summary.setup) {
    fail_input(
        "--baseline: made with another model or other options; make it again as this one is made");
  }
  std::vector<Check> checks;
  for (const RecipeSummary& own : summary.recipes) {
    const auto before = baseline.recipes.find(own.recipe);
    if (before == baseline.recipes.end()) continue;
    for (const Metric metric : kMetrics) {
      const Paired values = paired(metric, own, summary, before->second);
      if (values.now.empty() && metric == Metric::kKld) {
        fail_input("--baseline: has none of the prompts for '{}'", own.recipe);
      }
      if (!values.now.empty()) checks.push_back(compared(metric, own, values, seed));
    }
  }
  if (checks.empty()) fail_input("--baseline: has none of the recipes");
  return checks;
}

}  // namespace kv
