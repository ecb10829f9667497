#include "kv/container/meta_check.hh"
#include "kv/diff/diff.hh"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace kv {
namespace {

using nlohmann::ordered_json;

std::string layer_text(const DiffRow& row) {
  return row.layer ? fmt::format("{}", *row.layer) : "all";
}

// A bar of eighths of a cell, from 10^-4 to 1, so that small errors are seen beside large ones.
std::string bar_of(double error) {
  constexpr int kCells = 16;
  constexpr const char* kParts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const double share = error > 0 ? std::clamp(1 + std::log10(error) / 4, 0.0, 1.0) : 0;
  const int eighths = static_cast<int>(std::lround(share * kCells * 8));
  std::string bar;
  for (int i = 0; i < eighths / 8; ++i) bar += "█";
  return bar + kParts[eighths % 8];
}

std::string line_of(const DiffReport& report, const DiffRow& row, bool total) {
  std::string line = fmt::format("{:>6} {:>4}", layer_text(row), kind_text(row.kind));
  if (report.by != DiffBy::kLayer) {
    line += total ? fmt::format(" {:>8}", "all") : fmt::format(" {:>8}", row.index);
  }
  line += fmt::format(" {:>10.4g} {:>10.6f} {:>10.4g}", row.sums.rel_l2(), row.sums.cosine(),
                      row.sums.most);
  if (row.tokens > 0) {
    line += fmt::format(" {:>8.2f} %",
                        100.0 * static_cast<double>(row.over) / static_cast<double>(row.tokens));
  }
  if (report.bars) line += "  " + bar_of(row.sums.rel_l2());
  return line + "\n";
}

// JSON has no infinity and no NaN: null.
ordered_json json_of(const DiffRow& row, DiffBy by) {
  const auto number = [](double value) {
    return std::isfinite(value) ? ordered_json(value) : ordered_json();
  };
  ordered_json json;
  json["layer"] = row.layer ? ordered_json(*row.layer) : ordered_json();
  json["kind"] = kind_text(row.kind);
  if (by != DiffBy::kLayer) json[std::string(diff_by_name(by))] = row.index;
  json["rel_l2"] = number(row.sums.rel_l2());
  json["cosine"] = number(row.sums.cosine());
  json["max"] = number(row.sums.most);
  if (row.tokens > 0) json.update({{"tokens", row.tokens}, {"over", row.over}});
  return json;
}

}  // namespace

std::string diff_text(const DiffReport& report, const DiffResult& result) {
  std::string text;
  for (std::size_t i = 0; i < result.members.size(); ++i) {
    const DiffMember& member = result.members[i];
    if (result.members.size() > 1) text += fmt::format("{}member {}\n", i > 0 ? "\n" : "", i);
    text += fmt::format("{:>6} {:>4}", "layer", "kind");
    if (report.by != DiffBy::kLayer) text += fmt::format(" {:>8}", diff_by_name(report.by));
    text += fmt::format(" {:>10} {:>10} {:>10}", "rel L2", "cosine", "max");
    if (report.by == DiffBy::kLayer)
      text += fmt::format(" {:>10}", fmt::format("> {:g}", report.bound));
    text += "\n";
    for (const DiffRow& row : member.rows) text += line_of(report, row, false);
    for (const DiffRow& row : member.totals) text += line_of(report, row, true);
  }
  return text;
}

std::string diff_json(const DiffReport& report, const DiffResult& result) {
  ordered_json json = {
      {"a", report.a},
      {"b", report.b},
      {"by", diff_by_name(report.by)},
      {"bound", report.bound},
      {"offence", result.offence.empty() ? ordered_json() : ordered_json(result.offence)}};
  json["members"] = ordered_json::array();
  for (const DiffMember& member : result.members) {
    ordered_json rows = ordered_json::array(), totals = ordered_json::array();
    for (const DiffRow& row : member.rows) rows.push_back(json_of(row, report.by));
    for (const DiffRow& row : member.totals) totals.push_back(json_of(row, DiffBy::kLayer));
    json["members"].push_back({{"model", member.meta.model.name},
                               {"token_count", member.meta.token_count},
                               {"rows", rows},
                               {"totals", totals}});
  }
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string diff_csv(const DiffReport& report, const DiffResult& result) {
  std::string text = "member,layer,kind,";
  if (report.by != DiffBy::kLayer) text += fmt::format("{},", diff_by_name(report.by));
  text += report.by == DiffBy::kLayer ? "rel_l2,cosine,max,tokens,over\n" : "rel_l2,cosine,max\n";
  for (std::size_t i = 0; i < result.members.size(); ++i) {
    for (const DiffRow& row : result.members[i].rows) {
      text += fmt::format("{},{},{},", i, row.layer ? fmt::format("{}", *row.layer) : "",
                          kind_text(row.kind));
      if (report.by != DiffBy::kLayer) text += fmt::format("{},", row.index);
      text +=
          fmt::format("{:.6g},{:.8f},{:.6g}", row.sums.rel_l2(), row.sums.cosine(), row.sums.most);
      if (report.by == DiffBy::kLayer) text += fmt::format(",{},{}", row.tokens, row.over);
      text += "\n";
    }
  }
  return text;
}

std::string statistics_text(const std::string& name, const Statistics& members) {
  std::string text;
  for (std::size_t i = 0; i < members.size(); ++i) {
    text += fmt::format("{}{}{}\n{:>6} {:>4} {:>12} {:>12} {:>8} {:>8} {:>12}\n", i > 0 ? "\n" : "",
                        name, members.size() > 1 ? fmt::format(", member {}", i) : "", "layer",
                        "kind", "variance", "of deltas", "ratio", "bits", "by channel");
    for (const StatisticsRow& row : members[i]) {
      text += fmt::format("{:>6} {:>4} {:>12.4g} {:>12.4g} {:>8.3g} {:>8.3f} {:>12.3f}\n",
                          row.layer, kind_text(row.kind), row.variance, row.delta_variance,
                          row.delta_variance > 0 ? row.variance / row.delta_variance : 0, row.bits,
                          row.channel_bits);
    }
  }
  return text;
}

std::string statistics_json(const std::string& name, const Statistics& members) {
  ordered_json json = {{"file", name}, {"members", ordered_json::array()}};
  for (const std::vector<StatisticsRow>& member : members) {
    ordered_json rows = ordered_json::array();
    for (const StatisticsRow& row : member) {
      rows.push_back({{"layer", row.layer},
                      {"kind", kind_text(row.kind)},
                      {"variance", row.variance},
                      {"delta_variance", row.delta_variance},
                      {"bits", row.bits},
                      {"channel_bits", row.channel_bits}});
    }
    json["members"].push_back({{"rows", rows}});
  }
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string statistics_csv(const Statistics& members) {
  std::string text = "member,layer,kind,variance,delta_variance,bits,channel_bits\n";
  for (std::size_t i = 0; i < members.size(); ++i) {
    for (const StatisticsRow& row : members[i]) {
      text +=
          fmt::format("{},{},{},{:.6g},{:.6g},{:.4f},{:.4f}\n", i, row.layer, kind_text(row.kind),
                      row.variance, row.delta_variance, row.bits, row.channel_bits);
    }
  }
  return text;
}

}  // namespace kv
