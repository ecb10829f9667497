#include "kv/eval/report.hh"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

std::string figure(const std::optional<Interval>& interval, int digits, bool with_sign = false) {
  if (!interval) return "-";
  return with_sign ? fmt::format("{:+.{}f}", interval->value, digits)
                   : fmt::format("{:.{}f}", interval->value, digits);
}

std::string with_interval(const std::optional<Interval>& interval, int digits, bool with_sign) {
  if (!interval) return "-";
  return fmt::format("{} [{}, {}]", figure(interval, digits, with_sign),
                     figure(Interval{interval->low}, digits, with_sign),
                     figure(Interval{interval->high}, digits, with_sign));
}

std::string size_of(double bytes) {
  if (bytes >= 1e6) return fmt::format("{:.2f} MB", bytes / 1e6);
  return fmt::format("{:.1f} kB", bytes / 1e3);
}

using Rows = std::vector<std::vector<std::string>>;

// Columns as wide as they need; the first one to the left.
std::string table(const Rows& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      text += i == 0 ? fmt::format("{:<{}}", row[i], widths[i])
                     : fmt::format("  {:>{}}", row[i], widths[i]);
    }
    text += '\n';
  }
  return text;
}

std::vector<std::string> row_of(const RecipeSummary& own, const RecipeSummary& full) {
  const bool is_full = own.recipe.empty();
  return {is_full ? "(full prefill)" : own.recipe,
          with_interval(own.mean(Metric::kKld), 5, false),
          fmt::format("{:.4f}", own.kld_p99),
          fmt::format("{:.1f} %", 100 * own.mean(Metric::kTop1)->value),
          figure(own.mean(Metric::kNll), 4, true),
          figure(own.mean(Metric::kF1), 3),
          figure(own.mean(Metric::kExact), 3),
          is_full ? "-" : size_of(own.bytes),
          fmt::format("{:.3f}", own.ttft_s),
          own.ttft_s > 0 ? fmt::format("{:.2f}x", full.ttft_s / own.ttft_s) : "-",
          own.computed ? fmt::format("{:.1f}", *own.computed) : "-",
          own.flops_share ? fmt::format("{:.1f} %", 100 * *own.flops_share) : "-"};
}

std::vector<std::string> difference_of(const RecipeSummary& own) {
  const auto of = [&](Metric metric) { return own.difference[static_cast<std::size_t>(metric)]; };
  return {own.recipe,
          with_interval(of(Metric::kKld), 5, true),
          with_interval(own.kld_ratio, 3, false),
          with_interval(of(Metric::kTop1), 4, true),
          with_interval(of(Metric::kNll), 4, true),
          with_interval(of(Metric::kF1), 3, true)};
}

}  // namespace

std::string report_text(const Summary& summary, const std::vector<Check>& checks) {
  std::string text =
      fmt::format("{} prompts of {:.0f} tokens, {} predictions; [95 % intervals over prompts]\n\n",
                  summary.ids.size(), summary.tokens, summary.predictions);
  Rows rows = {{"recipe", "KLD", "p99", "top-1", "NLL", "F1", "exact", "bytes", "TTFT s", "faster",
                "computed", "FLOPs"}};
  rows.push_back(row_of(summary.full, summary.full));
  for (const RecipeSummary& own : summary.recipes) rows.push_back(row_of(own, summary.full));
  text += table(rows);
  if (summary.recipes.size() > 1) {
    text += fmt::format("\nbeside '{}', paired\n\n", summary.versus);
    Rows pairs = {{"recipe", "KLD", "times its KLD", "top-1", "NLL", "F1"}};
    for (const RecipeSummary& own : summary.recipes) {
      if (own.recipe != summary.versus) pairs.push_back(difference_of(own));
    }
    text += table(pairs);
  }
  if (checks.empty()) return text;
  const auto failed = std::ranges::count(checks, false, &Check::passed);
  text += fmt::format("\n{} checks, {} failed\n", checks.size(), failed);
  for (const Check& check : checks) {
    if (!check.passed) {
      text += fmt::format("FAILED {}: {}: {}\n", check.recipe, check.name, check.said);
    }
  }
  return text;
}

}  // namespace kv
