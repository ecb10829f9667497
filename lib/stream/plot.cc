// tokstream-sim --plot.
#include "kv/base/svg.hh"
#include "kv/stream/report.hh"

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

constexpr double kWidth = 860, kLeft = 150, kRight = 720;
constexpr double kBar = 26, kTop = 74;          // the bars
constexpr double kPanel = 190, kPanelGap = 64;  // a stream

constexpr const char* kStyle = R"(.made { stroke: #8c959f; stroke-width: 1.5; fill: none; }
.stall { fill: #d64550; opacity: 0.25; }
.lost { stroke: #d64550; stroke-width: 1.5; }
.resent { stroke: #3f9142; stroke-width: 1.5; }
.error { stroke: #24292f; stroke-width: 1.5; }
)";
constexpr const char* kDarkStyle = ".error { stroke: #e6edf3; }\n";

// 1, 2 or 5 times a power of ten, so that there are about five steps to `most`.
double step_for(double most) {
  const double power = std::pow(10, std::floor(std::log10(most / 5)));
  for (const double digit : {1.0, 2.0, 5.0}) {
    if (most / (digit * power) <= 6) return digit * power;
  }
  return 10 * power;
}

std::string bars(const std::vector<SchemeResult>& results) {
  std::vector<Estimate> stalled, bytes;
  double most = 1e-3;
  for (const SchemeResult& r : results) {
    std::vector<double> ratios, copies;
    for (const StreamTotals& t : r.seeds) {
      ratios.push_back(100 * t.shown.ratio(0));
      copies.push_back(static_cast<double>(t.wire_bytes) /
                       std::max(1.0, static_cast<double>(t.copy_wire_bytes)));
    }
    stalled.push_back(estimate_of(ratios));
    bytes.push_back(estimate_of(copies));
    const double half = std::isnan(stalled.back().half) ? 0 : stalled.back().half;
    most = std::max(most, stalled.back().value + half);
  }
  const double bottom = kTop + kBar * static_cast<double>(results.size());
  const auto x_of = [&](double percent) {
    return kLeft + (kRight - kLeft) * std::clamp(percent / most, 0.0, 1.0);
  };
  std::string out;
  for (double tick = 0; tick <= most; tick += step_for(most)) {
    out += svg_line(x_of(tick), kTop - 4, x_of(tick), bottom, "class=\"grid\"");
    out += svg_text(x_of(tick), bottom + 16, "text-anchor=\"middle\"", fmt::format("{:g} %", tick));
  }
  out += svg_text(kRight + 12, kTop - 8, "class=\"faint\"", "bytes of one copy");
  for (std::size_t i = 0; i < results.size(); ++i) {
    const double y = kTop + kBar * static_cast<double>(i);
    const Estimate& e = stalled[i];
    out += svg_text(kLeft - 8, y + 16, "text-anchor=\"end\"", results[i].scheme.name);
    out += svg_box(kLeft, y + 4, std::max(x_of(e.value) - kLeft, 1.0), kBar - 8,
                   fmt::format("fill=\"{}\"", kSvgColours[i % kSvgColours.size()]));
    if (!std::isnan(e.half)) {
      out += svg_line(x_of(e.value - e.half), y + kBar / 2, x_of(e.value + e.half), y + kBar / 2,
                      "class=\"error\"");
    }
    out += svg_text(kRight + 12, y + 16, "", fmt::format("{:.3f}", bytes[i].value));
  }
  return out;
}

// Tokens over time: how many were made, how many shown; stalls shaded; packets below.
std::string stream(const ExperimentOptions& o, const SchemeResult& r, double top, double seconds) {
  const auto until = static_cast<TimeNs>(seconds * 1e9);
  const Timeline t = timeline_of(o, r.scheme, until);
  const auto x_of = [&](TimeNs at) {
    return kLeft + (kRight - kLeft) * std::min(static_cast<double>(at) / 1e9 / seconds, 1.0);
  };
  const double tokens = std::max<double>(1, static_cast<double>(t.made.size()));
  const double bottom = top + kPanel;
  const auto y_of = [&](std::size_t n) {
    return bottom - kPanel * static_cast<double>(n) / tokens;
  };
  const auto curve = [&](const std::vector<TimeNs>& times, const std::string& how) {
    std::string path = fmt::format("M{:.1f} {:.1f}", kLeft, bottom);
    for (std::size_t i = 0; i < times.size() && times[i] <= until; ++i) {
      path += fmt::format("H{:.1f}V{:.1f}", x_of(times[i]), y_of(i + 1));
    }
    return fmt::format("<path d=\"{}\" {}/>\n", path, how);
  };
  std::string out = svg_text(kLeft, top - 8, "", fmt::format("{}: one stream", r.scheme.name));
  for (std::size_t i = 1; i < t.shown.size() && t.shown[i - 1] <= until; ++i) {
    if (t.shown[i] - t.shown[i - 1] > o.simulation.thresholds[0]) {
      out += svg_box(x_of(t.shown[i - 1]), top, x_of(t.shown[i]) - x_of(t.shown[i - 1]), kPanel,
                     "class=\"stall\"");
    }
  }
  out += curve(t.made, "class=\"made\"");
  out += curve(t.shown, "fill=\"none\" stroke-width=\"2\" stroke=\"#3b82c4\"");
  out += svg_box(kLeft, top, kRight - kLeft, kPanel, "class=\"frame\"");
  for (const Timeline::Packet& packet : t.packets) {
    const double x = x_of(packet.sent);
    if (packet.arrived == kNever) out += svg_line(x, bottom + 2, x, bottom + 9, "class=\"lost\"");
    if (packet.resent && packet.tokens > 0) {
      out += svg_line(x, bottom + 11, x,
                      bottom + 11 + std::min<double>(static_cast<double>(packet.tokens), 8),
                      "class=\"resent\"");
    }
  }
  out += svg_text(kLeft - 8, bottom + 9, "text-anchor=\"end\" class=\"faint\"", "lost");
  out += svg_text(kLeft - 8, bottom + 21, "text-anchor=\"end\" class=\"faint\"", "with old tokens");
  out += svg_text(kLeft - 8, top + 10, "text-anchor=\"end\" class=\"faint\"",
                  fmt::format("{} tokens", t.made.size()));
  for (double tick = 0; tick <= seconds; tick += step_for(seconds)) {
    const double x = x_of(static_cast<TimeNs>(tick * 1e9));
    out += svg_text(x, bottom + 34, "text-anchor=\"middle\"", fmt::format("{:g} s", tick));
  }
  out += svg_text(kRight + 12, top + 24, "class=\"faint\"", "grey: made");
  out += svg_text(kRight + 12, top + 40, "class=\"faint\"", "blue: shown");
  out += svg_text(kRight + 12, top + 56, "class=\"faint\"", "red: a stall");
  return out;
}

}  // namespace

std::string experiment_svg(const ExperimentOptions& o, const std::vector<SchemeResult>& results,
                           double seconds) {
  const std::size_t panels = results.size() > 1 ? 2 : 1;
  const double streams = kTop + kBar * static_cast<double>(results.size()) + 62;
  const double height = streams + static_cast<double>(panels) * (kPanel + kPanelGap);
  std::string out = svg_text(20, 26, "class=\"title\"", "Stalled share of a stream's time");
  out += svg_text(
      20, 46, "class=\"faint\"",
      fmt::format("loss {}; gaps over {:g} ms; {} streams of {} seeds; bars: 95 %",
                  o.simulation.forward.loss.text,
                  static_cast<double>(o.simulation.thresholds[0]) / 1e6, o.streams, o.seeds));
  out += bars(results);
  out += stream(o, results.front(), streams, seconds);
  if (panels > 1) out += stream(o, results.back(), streams + kPanel + kPanelGap, seconds);
  return svg_document(kWidth, height, kStyle, kDarkStyle, out);
}

}  // namespace kv
