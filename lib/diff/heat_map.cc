// kvdiff-layers --plot.
#include "kv/base/svg.hh"
#include "kv/container/meta_check.hh"
#include "kv/diff/diff.hh"

#include <algorithm>
#include <map>

namespace kv {
namespace {

constexpr double kLeft = 56, kTop = 64, kGap = 48, kCell = 5, kRow = 9;
constexpr double kLeast = 1e-4;  // what is not darker than the page
// One hue by opacity, so that it reads on a light and on a dark page.
constexpr const char* kStyle = ".cell { fill: #d64550; }\n.bad { fill: #8e63c7; }\n";

std::string cell(double x, double y, double error) {
  if (!std::isfinite(error)) return svg_box(x, y, kCell, kRow, "class=\"bad\"");
  const double share =
      error > kLeast ? std::min(1.0, 1 - std::log10(error) / std::log10(kLeast)) : 0;
  if (share <= 0) return "";
  return svg_box(x, y, kCell, kRow, fmt::format("class=\"cell\" fill-opacity=\"{:.2f}\"", share));
}

// One kind's layers, upwards is deeper; returns its lower end.
double panel(const DiffMember& member, format::Kind kind, double top, std::string& out) {
  std::map<std::uint32_t, int> line_of;
  std::int64_t columns = 0;
  for (const DiffRow& row : member.heat) {
    if (row.kind == kind)
      line_of.try_emplace(*row.layer, 0), columns = std::max(columns, row.index + 1);
  }
  int lines = 0;
  for (auto& [layer, line] : line_of) line = lines++;
  const double bottom = top + kRow * lines, right = kLeft + kCell * static_cast<double>(columns);
  out += svg_text(kLeft, top - 8, "", fmt::format("{} by layer and token", kind_text(kind)));
  for (const DiffRow& row : member.heat) {
    if (row.kind != kind) continue;
    out += cell(kLeft + kCell * static_cast<double>(row.index), top + kRow * line_of[*row.layer],
                row.sums.rel_l2());
  }
  for (const auto& [layer, line] : line_of) {
    if (line % 5 != 0) continue;
    out += svg_text(kLeft - 6, top + kRow * (line + 0.9), "text-anchor=\"end\" class=\"faint\"",
                    fmt::format("{}", layer));
  }
  out += svg_box(kLeft, top, right - kLeft, bottom - top, "class=\"frame\"");
  for (int quarter = 0; quarter <= 4; ++quarter) {
    out += svg_text(kLeft + (right - kLeft) * quarter / 4, bottom + 16,
                    "text-anchor=\"middle\" class=\"faint\"",
                    fmt::format("{}", member.meta.token_count * quarter / 4));
  }
  return bottom;
}

}  // namespace

std::string diff_heat_map(const DiffReport& report, const DiffResult& result) {
  std::string body =
      svg_text(kLeft, 28, "class=\"title\"", fmt::format("Relative L2 error of {}", report.b));
  double bottom = kTop - kGap;
  double right = 480;
  for (std::size_t i = 0; i < result.members.size(); ++i) {
    const DiffMember& member = result.members[i];
    for (const DiffRow& total : member.totals) {
      bottom = panel(member, total.kind, bottom + kGap, body);
    }
    for (const DiffRow& row : member.heat) {
      right = std::max(right, kLeft + kCell * static_cast<double>(row.index + 1));
    }
  }
  double x = kLeft;
  const double y = bottom + 32;
  for (const double error : {1e-3, 1e-2, 1e-1, 1.0}) {
    body += cell(x, y, error) +
            svg_text(x + kCell + 6, y + kRow, "class=\"faint\"", fmt::format("{:g}", error));
    x += 64;
  }
  body += svg_box(x, y, kCell, kRow, "class=\"bad\"") +
          svg_text(x + kCell + 6, y + kRow, "class=\"faint\"", "not finite");
  return svg_document(right + 24, y + 32, kStyle, "", body);
}

}  // namespace kv
