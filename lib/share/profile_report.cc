// What profiling found, for people, for machines and as a picture.

#include "kv/base/svg.hh"
#include "kv/share/profile.hh"

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

constexpr std::size_t kBar = 24;

std::string group_text(const LayerGroup& group) {
  return group.count() == 0 ? "none" : fmt::format("{}:{}", group.first, group.end);
}

std::string row_of(const SharePoint& point, const SharePoint& reuse, bool chosen) {
  const double whole = reuse.divergence.mean;
  const double removed = whole > 0 ? 100 * (1 - point.divergence.mean / whole) : 100;
  return fmt::format(
      "{}{:<8} {:>3} {:>4.0f}% {:>9.5f} {:>9.5f} [{:.5f}, {:.5f}] {:>8.4f} {:>6.1f}% "
      "{:>6.3f} {:>8.3f} {:>6.3f}\n",
      chosen ? "> " : "  ", group_text(point.group), point.group.count(), 100 * point.cost,
      point.chosen_by.mean, point.divergence.mean, point.divergence.low, point.divergence.high,
      point.divergence_p99, removed, point.top1, point.nll - point.nll_own, point.f1);
}

}  // namespace

std::string profile_text(const SharePlan& plan) {
  std::string text = fmt::format("{} -> {}, {} layers", plan.from.name, plan.to.name, plan.layers);
  if (plan.first_different == plan.layers) {
    text += "; all of them make the same keys and values\n";
  } else if (plan.first_different > 0) {
    text += fmt::format("; the same before layer {}, nothing is recomputed there\n",
                        plan.first_different);
  } else {
    text += "; they differ from the first on\n";
  }
  const double most = std::ranges::max(plan.sensitivity);
  text += "\nlayer  divergence when it alone is reused\n";
  for (std::int64_t l = plan.first_different; l < std::ssize(plan.sensitivity); ++l) {
    const double value = plan.sensitivity[static_cast<std::size_t>(l)];
    const double share = most > 0 ? value / most : 0;
    std::string bar;
    for (std::size_t i = 0; i < static_cast<std::size_t>(share * kBar + 0.5); ++i) bar += "█";
    text += fmt::format("{:>5}  {:.6f} {}\n", l, value, bar);
  }
  text +=
      "\n  recomputed layers  cost  KLD: chosen by, apart [95 %], p99, less than reuse  top-1  "
      "NLL more    F1\n";
  const SharePoint& reuse = plan.frontier.front();
  for (std::int64_t i = 0; i < std::ssize(plan.frontier); ++i) {
    text += row_of(plan.frontier[static_cast<std::size_t>(i)], reuse, i == plan.chosen);
  }
  text += fmt::format("  (F1 of the model's own prefill: {:.3f})\n", reuse.f1_own);
  text += fmt::format("\nchosen: {}; {}\n", group_text(plan.point().group), plan.why);
  text += fmt::format("by {} prompts, told of {} others; {:.1f} prefills a prompt\n", plan.prompts,
                      plan.prompts_apart, plan.prefills_a_prompt);
  return text;
}

std::string profile_plot(const SharePlan& plan) {
  constexpr double kLeft = 72, kTop = 56, kWidth = 480, kHeight = 280;
  const double least = 1e-6;
  double most = least * 10, lowest = 1;
  for (const SharePoint& point : plan.frontier) {
    most = std::max({most, point.divergence.high, point.chosen_by.mean});
    lowest = std::min({lowest, std::max(point.divergence.mean, least)});
  }
  const double top = std::ceil(std::log10(most));
  const double bottom = std::min(std::floor(std::log10(lowest)), top - 1);
  const auto x = [&](const SharePoint& point) {
    return kLeft +
           kWidth * static_cast<double>(point.group.count()) / static_cast<double>(plan.layers);
  };
  const auto y = [&](double value) {
    const double at = std::log10(std::max(value, std::pow(10, bottom)));
    return kTop + kHeight * (top - at) / (top - bottom);
  };
  std::string body = svg_text(
      kLeft, 28, "class=\"title\"",
      fmt::format("{} for {}: layers recomputed and divergence", plan.from.name, plan.to.name));
  for (double decade = bottom; decade <= top; ++decade) {
    const double at = y(std::pow(10, decade));
    body += svg_line(kLeft, at, kLeft + kWidth, at, "class=\"grid\"");
    body += svg_text(kLeft - 8, at + 4, "text-anchor=\"end\" class=\"faint\"",
                     fmt::format("{:g}", std::pow(10, decade)));
  }
  for (int quarter = 0; quarter <= 4; ++quarter) {
    body += svg_text(kLeft + kWidth * quarter / 4, kTop + kHeight + 18,
                     "text-anchor=\"middle\" class=\"faint\"",
                     fmt::format("{:g}", static_cast<double>(plan.layers) * quarter / 4));
  }
  const auto curve = [&](const char* colour, auto value) {
    for (std::size_t i = 0; i < plan.frontier.size(); ++i) {
      const SharePoint& point = plan.frontier[i];
      if (i > 0) {
        const SharePoint& last = plan.frontier[i - 1];
        body += svg_line(x(last), y(value(last)), x(point), y(value(point)),
                         fmt::format("stroke=\"{}\" stroke-width=\"2\"", colour));
      }
      body += svg_box(x(point) - 3, y(value(point)) - 3, 6, 6, fmt::format("fill=\"{}\"", colour));
    }
  };
  for (const SharePoint& point : plan.frontier) {
    body += svg_line(x(point), y(point.divergence.low), x(point), y(point.divergence.high),
                     fmt::format("stroke=\"{}\"", kSvgColours[0]));
  }
  curve(kSvgColours[1], [](const SharePoint& point) { return point.chosen_by.mean; });
  curve(kSvgColours[0], [](const SharePoint& point) { return point.divergence.mean; });
  body += svg_box(kLeft, kTop, kWidth, kHeight, "class=\"frame\"");
  double at = kLeft;
  for (const auto& [colour, text] :
       {std::pair(kSvgColours[0], "KLD, prompts kept apart, with 95 % intervals"),
        {kSvgColours[1], "KLD, prompts chosen by"}}) {
    body += svg_box(at, kTop + kHeight + 34, 10, 10, fmt::format("fill=\"{}\"", colour));
    body += svg_text(at + 16, kTop + kHeight + 44, "class=\"faint\"", text);
    at += 290;
  }
  return svg_document(kLeft + kWidth + 40, kTop + kHeight + 64, "", "", body);
}

}  // namespace kv
