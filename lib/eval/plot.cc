#include "kv/base/svg.hh"
#include "kv/eval/report.hh"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

constexpr double kWidth = 860, kTop = 76, kRow = 22, kRight = 716, kGlyph = 6.4;

struct Scale {
  double left = 0, low = 0, high = 1;  // powers of ten

  double x_of(double kld) const {
    const double share = (std::log10(std::max(kld, std::pow(10, low))) - low) / (high - low);
    return left + (kRight - left) * share;
  }
};

// As wide as the names need, and from power to power of what is there.
Scale scale_of(const Summary& summary) {
  double least = 1e9, most = 0;
  std::size_t longest = 0;
  for (const RecipeSummary& own : summary.recipes) {
    longest = std::max(longest, own.recipe.size());
    const Interval kld = *own.mean(Metric::kKld);
    if (kld.value <= 0) continue;
    least = std::min(least, std::max(kld.low, kld.value / 10));
    most = std::max({most, kld.high, kld.value});
  }
  if (most <= 0) {
    least = 1e-4;
    most = 1;
  }
  const double low = std::floor(std::log10(least));
  return {std::min(24 + kGlyph * static_cast<double>(longest), 420.0), low,
          std::max(std::ceil(std::log10(most)), low + 1)};
}

}  // namespace

std::string report_svg(const Summary& summary, const std::string& title) {
  const Scale scale = scale_of(summary);
  const double bottom = kTop + kRow * static_cast<double>(summary.recipes.size());
  std::string body = svg_text(16, 26, "class=\"title\"", title);
  body +=
      svg_text(16, 46, "class=\"faint\"",
               fmt::format("mean KL divergence from the full prefill, nats a token; {} prompts of "
                           "{:.0f} tokens; bars: 95 % over prompts",
                           summary.ids.size(), summary.tokens));
  for (double power = scale.low; power <= scale.high; ++power) {
    const double x = scale.x_of(std::pow(10, power));
    body += svg_line(x, kTop - 8, x, bottom, "class=\"grid\"");
    body += svg_text(x, bottom + 18, "class=\"faint\" text-anchor=\"middle\"",
                     fmt::format("{:g}", std::pow(10, power)));
  }
  body +=
      svg_text(kRight + 130, kTop - 12, "class=\"faint\" text-anchor=\"end\"", "top-1, computed");
  double y = kTop + kRow / 2;
  for (const RecipeSummary& own : summary.recipes) {
    const Interval kld = *own.mean(Metric::kKld);
    const char* colour = kSvgColours[own.recipe == summary.versus ? 8 : 0];
    body += svg_text(scale.left - 10, y + 4, "text-anchor=\"end\"", own.recipe);
    if (std::isfinite(kld.low) && kld.high > 0) {
      body += svg_line(scale.x_of(kld.low), y, scale.x_of(kld.high), y,
                       fmt::format("stroke=\"{}\" stroke-width=\"2\"", colour));
    }
    body += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4.2\" fill=\"{}\"/>\n",
                        scale.x_of(kld.value), y, colour);
    std::string beside = fmt::format("{:.1f} %", 100 * own.mean(Metric::kTop1)->value);
    if (own.computed) beside += fmt::format(", {:.0f}", *own.computed);
    body += svg_text(kRight + 130, y + 4, "class=\"faint\" text-anchor=\"end\"", beside);
    y += kRow;
  }
  return svg_document(kWidth, bottom + 34, "", "", body);
}

}  // namespace kv
