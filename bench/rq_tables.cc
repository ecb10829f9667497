#include "rq_report.hh"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cmath>

namespace kv {
namespace {

using nlohmann::json;

std::string bounds(const Interval& interval, const char* format) {
  if (std::isnan(interval.low)) return "-";
  return fmt::format("{} to {}", fmt::format(fmt::runtime(format), interval.low),
                     fmt::format(fmt::runtime(format), interval.high));
}

std::string with_bounds(const Interval& interval, const char* format) {
  return fmt::format("{} ({})", fmt::format(fmt::runtime(format), interval.value),
                     bounds(interval, format));
}

json interval_json(const Interval& interval) {
  json out = {{"value", interval.value}};
  if (!std::isnan(interval.low)) {
    out["low"] = interval.low;
    out["high"] = interval.high;
  }
  return out;
}

json optional_json(const std::optional<Interval>& interval) {
  return interval ? interval_json(*interval) : json();
}

std::string main_table(const Table& table) {
  std::string out =
      "| recipe | bits a value | of 16 bits | of the file | KLD, mean (95 %) | p50 | p99 | top-1 "
      "| NLL above | encode s | CPU s |\n|---|---|---|---|---|---|---|---|---|---|---|\n";
  for (const Point& p : table.points) {
    out += fmt::format(
        "| {} | {:.3f} | {:.2f}x | {:.2f}x | {} | {:.2g} | {:.2g} | {:.4f} | {} | {:.2f} | {:.2f} "
        "|\n",
        p.recipe, p.bits, 16 / p.bits, p.to_file, with_bounds(p.kld, "{:.3g}"), p.kld_p50,
        p.kld_p99, p.same_top.value, with_bounds(p.nll, "{:+.4f}"), p.encode_s, p.encode_cpu_s);
  }
  return out;
}

std::string pair_table(const Table& table, const std::string& base) {
  std::string out = fmt::format(
      "\nBeside {}, on the same windows:\n\n| recipe | bytes | KLD (95 %) | top-1 (95 %) |\n"
      "|---|---|---|---|\n",
      base);
  for (const Pair& pair : compare_to(table, base)) {
    if (pair.recipe == base) continue;
    out += fmt::format("| {} | {:.3f}x | {} | {} |\n", pair.recipe, pair.bits_ratio,
                       pair.kld_ratio ? with_bounds(*pair.kld_ratio, "{:.3g}") + "x" : "-",
                       with_bounds(pair.same_top, "{:+.4f}"));
  }
  return out;
}

std::string family_table(const Table& table, double kld, const std::string& base) {
  const std::vector<FamilyBits> families = family_bits(table, kld, base);
  if (families.empty()) return "";
  std::string out = fmt::format(
      "\nAt a mean KLD of {:g} nats, interpolated:\n\n| family | bits a value (95 %) | of 16 bits "
      "| smaller than {} (95 %) |\n|---|---|---|---|\n",
      kld, families.front().base.empty() ? "the base" : families.front().base);
  for (const FamilyBits& entry : families) {
    if (!entry.bits) {
      out += fmt::format("| {} | not reached | - | - |\n", entry.family);
      continue;
    }
    out += fmt::format("| {} | {} | {:.2f}x | {} |\n", entry.family,
                       with_bounds(*entry.bits, "{:.3f}"), 16 / entry.bits->value,
                       entry.smaller ? with_bounds(*entry.smaller, "{:.2f}") : "-");
  }
  return out;
}

}  // namespace

std::string report_text(const Table& table, const ReportOptions& options) {
  std::string out = fmt::format(
      "{}: {} windows with {} tokens of context, {} predictions; intervals: bootstrap over "
      "windows\n",
      table.probe, table.windows.size(), table.context, table.tokens);
  if (table.left_out > 0) {
    out +=
        fmt::format("LEFT OUT: {} windows that some recipe was not measured on\n", table.left_out);
  }
  out += "\n" + main_table(table);
  if (!options.versus.empty()) out += pair_table(table, options.versus);
  for (const double kld : options.at_kld) out += family_table(table, kld, options.versus_family);
  return out;
}

std::string report_json(const Table& table, const ReportOptions& options) {
  json out = {{"probe", table.probe},
              {"windows", table.windows},
              {"left_out", table.left_out},
              {"context", table.context},
              {"predictions", table.tokens}};
  for (const Point& p : table.points) {
    out["points"].push_back({{"recipe", p.recipe},
                             {"family", p.family},
                             {"shell", p.windows.front()->shell},
                             {"bits", p.bits},
                             {"of_16_bits", 16 / p.bits},
                             {"of_file", p.to_file},
                             {"kld", interval_json(p.kld)},
                             {"kld_p50", p.kld_p50},
                             {"kld_p99", p.kld_p99},
                             {"top1", interval_json(p.same_top)},
                             {"nll_above", interval_json(p.nll)},
                             {"encode_s", p.encode_s},
                             {"encode_cpu_s", p.encode_cpu_s}});
  }
  if (!options.versus.empty()) {
    out["versus"] = {{"base", options.versus}, {"pairs", json::array()}};
    for (const Pair& pair : compare_to(table, options.versus)) {
      out["versus"]["pairs"].push_back({{"recipe", pair.recipe},
                                        {"bits_ratio", pair.bits_ratio},
                                        {"kld_ratio", optional_json(pair.kld_ratio)},
                                        {"top1_difference", interval_json(pair.same_top)}});
    }
  }
  for (const double kld : options.at_kld) {
    json families = json::array();
    for (const FamilyBits& entry : family_bits(table, kld, options.versus_family)) {
      families.push_back({{"family", entry.family},
                          {"bits", optional_json(entry.bits)},
                          {"base", entry.base},
                          {"smaller", optional_json(entry.smaller)}});
    }
    out["at_kld"].push_back({{"kld", kld}, {"families", families}});
  }
  return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace kv
