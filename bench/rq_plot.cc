#include "rq_plot.hh"

#include "kv/base/svg.hh"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

namespace kv {
namespace {

constexpr double kWidth = 860, kHeight = 580;
constexpr double kLeft = 76, kRight = 836, kTop = 84, kBottom = 440;
constexpr double kStripTop = 448, kStripBottom = 502;  // where the KLD is 0
constexpr double kGlyph = 6.7;                         // width of a letter of the labels

constexpr const char* kStyle = R"(.fine { stroke: #eff2f5; stroke-width: 1; }
.name { font-weight: 600; stroke: #ffffff; stroke-width: 3; paint-order: stroke; }
)";
constexpr const char* kDarkStyle = R"(.fine { stroke: #1c2128; }
.name { stroke: #0d1117; }
)";

struct Box {
  double x = 0, y = 0, width = 0, height = 0;
};

double overlap(const Box& a, const Box& b) {
  const double x = std::min(a.x + a.width, b.x + b.width) - std::max(a.x, b.x);
  const double y = std::min(a.y + a.height, b.y + b.height) - std::max(a.y, b.y);
  return x > 0 && y > 0 ? x * y : 0;
}

struct Spot {
  double x = 0, y = 0;
};

std::string line_at(Spot a, Spot b, const char* attributes) {
  return svg_line(a.x, a.y, b.x, b.y, attributes);
}

std::string marker_at(Spot s, std::size_t kind, const char* colour) {
  switch (kind % 4) {
    case 0:
      return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4.2\" fill=\"{}\"/>\n", s.x, s.y,
                         colour);
    case 1:
      return fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"7.6\" height=\"7.6\" "
          "fill=\"{}\"/>\n",
          s.x - 3.8, s.y - 3.8, colour);
    case 2:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l5 5l-5 5l-5 -5z\" fill=\"{}\"/>\n", s.x, s.y - 5,
                         colour);
    default:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l4.8 8.4h-9.6z\" fill=\"{}\"/>\n", s.x, s.y - 5.2,
                         colour);
  }
}

// Ticks of the x axis: bits that are easy to name, 16 / bits above them.
constexpr std::array kBits = {0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0};
constexpr std::array kBitsBetween = {0.1875, 0.375, 0.75, 1.5, 3.0, 6.0, 12.0, 24.0};

class Plot {
 public:
  explicit Plot(const Table& table) : table_(table) {
    double least_bits = 1e9, most_bits = 0, least_kld = 1e9, most_kld = 0;
    for (const Point& point : table.points) {
      least_bits = std::min(least_bits, point.bits);
      most_bits = std::max(most_bits, point.bits);
      if (point.kld.value <= 0) continue;
      const double low = point.kld.low > 0 ? point.kld.low : point.kld.value;
      least_kld = std::min(least_kld, low);
      most_kld =
          std::max({most_kld, point.kld.value, std::isnan(point.kld.high) ? 0 : point.kld.high});
    }
    if (most_kld <= 0) {
      least_kld = 1e-4;
      most_kld = 1e-1;
    }
    left_ = std::log(least_bits / 1.25);
    right_ = std::log(most_bits * 1.25);
    // Whole thirds of a decade, so that some named grid line is near each end.
    low_ = std::floor(std::log10(least_kld) * 3) / 3;
    high_ = std::max(std::ceil(std::log10(most_kld) * 3) / 3, low_ + 1);
  }

  std::string svg(const std::string& title) {
    std::string out =
        svg_text(kLeft, 26, "class=\"title\"", title.empty() ? "Rate and quality" : title);
    out +=
        svg_text(kLeft, 44, "class=\"faint\"",
                 fmt::format("{}: {} windows with {} tokens of context, {} predictions; bars: 95 % "
                             "bootstrap over windows",
                             table_.probe, table_.windows.size(), table_.context, table_.tokens));
    out += axes();
    const auto [lines, marks] = curves();
    out += lines;
    out += names();  // avoids what curves() covered
    out += marks;
    return svg_document(kWidth, kHeight, kStyle, kDarkStyle, out);
  }

 private:
  double x_of(double bits) const {
    return kLeft + (kRight - kLeft) * (std::log(bits) - left_) / (right_ - left_);
  }
  double y_of(double kld) const {
    return kBottom - (kBottom - kTop) * (std::log10(kld) - low_) / (high_ - low_);
  }
  bool shows(double bits) const { return std::log(bits) >= left_ && std::log(bits) <= right_; }

  std::string axes() const {
    std::string out;
    for (const double bits : kBitsBetween) {
      if (!shows(bits)) continue;
      out += line_at({x_of(bits), kTop}, {x_of(bits), kStripBottom}, "class=\"fine\"");
      out += svg_text(x_of(bits), kStripBottom + 17, "text-anchor=\"middle\" class=\"faint\"",
                      fmt::format("{:g}", bits));
    }
    for (const double bits : kBits) {
      if (!shows(bits)) continue;
      out += line_at({x_of(bits), kTop}, {x_of(bits), kStripBottom}, "class=\"grid\"");
      out += svg_text(x_of(bits), kStripBottom + 17, "text-anchor=\"middle\"",
                      fmt::format("{:g}", bits));
      out += svg_text(x_of(bits), kTop - 7, "text-anchor=\"middle\" class=\"faint\"",
                      fmt::format("{:g}x", 16 / bits));
    }
    out += svg_text(kRight, kTop - 22, "text-anchor=\"end\" class=\"faint\"",
                    "times smaller than 16 bits");
    for (int decade = static_cast<int>(std::floor(low_)); decade <= high_; ++decade) {
      for (const int digit : {1, 2, 5}) {
        const double kld = digit * std::pow(10.0, decade);
        if (std::log10(kld) < low_ - 1e-9 || std::log10(kld) > high_ + 1e-9) continue;
        out += line_at({kLeft, y_of(kld)}, {kRight, y_of(kld)},
                       digit == 1 ? "class=\"grid\"" : "class=\"fine\"");
        out += svg_text(kLeft - 8, y_of(kld) + 4,
                        digit == 1 ? "text-anchor=\"end\"" : "text-anchor=\"end\" class=\"faint\"",
                        fmt::format("{:g}", kld));
      }
    }
    out += fmt::format(
        "<rect class=\"frame\" x=\"{0}\" y=\"{1}\" width=\"{2}\" height=\"{3}\"/>\n"
        "<rect class=\"frame\" x=\"{0}\" y=\"{4}\" width=\"{2}\" height=\"{5}\"/>\n",
        kLeft, kTop, kRight - kLeft, kBottom - kTop, kStripTop, kStripBottom - kStripTop);
    out +=
        svg_text(kLeft - 8, (kStripTop + kStripBottom) / 2 + 4, "text-anchor=\"end\"", "exactly 0");
    out += svg_text((kLeft + kRight) / 2, kStripBottom + 42, "text-anchor=\"middle\"",
                    "bits a value of K and V, all bytes counted (log scale)");
    out += fmt::format(
        "<text transform=\"translate(18 {:.0f}) rotate(-90)\" "
        "text-anchor=\"middle\">mean KLD from the raw bf16 cache, nats (log "
        "scale)</text>\n",
        (kTop + kBottom) / 2);
    return out;
  }

  // Lines, and bars with markers; remembers what they cover and what has to be named where.
  std::pair<std::string, std::string> curves() {
    std::map<std::string, std::size_t> numbers;
    std::map<std::string, std::vector<const Point*>> families;
    std::string lines, marks;
    for (const Point& point : table_.points) {
      numbers.try_emplace(point.family, numbers.size());
      families[point.family].push_back(&point);
    }
    for (auto& [family, points] : families) {
      const std::size_t number = numbers[family];
      const char* colour = kSvgColours[number % kSvgColours.size()];
      std::ranges::sort(points, {}, &Point::bits);
      std::vector<Spot> spots, zeros;
      for (const Point* point : points) {
        Spot spot{x_of(point->bits), (kStripTop + kStripBottom) / 2};
        if (point->kld.value > 0) {
          spot.y = y_of(point->kld.value);
          spots.push_back(spot);
          if (!std::isnan(point->kld.low) && point->kld.low > 0) {
            marks += fmt::format(
                "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\" stroke=\"{3}\" "
                "stroke-width=\"1.5\" opacity=\"0.6\"/>\n",
                spot.x, y_of(point->kld.low), y_of(point->kld.high), colour);
          }
        } else {
          zeros.push_back(spot);
        }
        marks += marker_at(spot, number, colour);
        taken_.push_back({spot.x - 5, spot.y - 5, 10, 10});
      }
      const std::string& name = points.size() == 1 ? points.front()->recipe : family;
      if (!zeros.empty()) wanted_.push_back({name, colour, {zeros.back(), zeros.front()}});
      if (spots.empty()) continue;
      std::string path;
      for (std::size_t i = 0; i < spots.size(); ++i) {
        path += fmt::format("{}{:.1f} {:.1f}", i == 0 ? "M" : "L", spots[i].x, spots[i].y);
        if (i > 0) cover(spots[i - 1], spots[i]);
      }
      lines += fmt::format(
          "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\" "
          "stroke-linejoin=\"round\"/>\n",
          path, colour);
      wanted_.push_back({name, colour, {spots.back(), spots.front()}});
    }
    return {lines, marks};
  }

  void cover(Spot a, Spot b) {
    const double length = std::hypot(b.x - a.x, b.y - a.y);
    for (double at = 0; at < length; at += 6) {
      const double share = at / length;
      taken_.push_back({a.x + share * (b.x - a.x) - 3, a.y + share * (b.y - a.y) - 3, 6, 6});
    }
  }

  // Each name beside an end of its line, where it covers least.
  std::string names() {
    std::string out;
    for (const Name& name : wanted_) {
      const double width = kGlyph * static_cast<double>(name.text.size()), height = 14;
      Box best;
      double least = 1e18;
      for (std::size_t end = 0; end < name.ends.size(); ++end) {
        const Spot s = name.ends[end];
        const double sides = end == 0 ? 8 : -width - 8;  // outwards first
        for (const Spot place : {Spot{sides, -7},
                                 {-width / 2, 8},
                                 {-width / 2, -22},
                                 {sides, 6},
                                 {sides, -20},
                                 {-sides - width, -7},
                                 {-width / 2, 22},
                                 {-width / 2, -36}}) {
          const Box box{s.x + place.x, s.y + place.y, width, height};
          double cost = static_cast<double>(end) + 0.2 * std::hypot(place.x, place.y) / 10;
          for (const Box& other : taken_) cost += 2 * overlap(box, other);
          const double outside =
              std::max(0.0, kLeft - box.x) + std::max(0.0, box.x + width - kWidth + 4) +
              std::max(0.0, kTop - box.y) + std::max(0.0, box.y + height - kStripBottom);
          cost += 50 * outside;
          if (s.y < kBottom) cost += 50 * std::max(0.0, box.y + height - kBottom);
          if (s.y > kBottom) cost += 50 * std::max(0.0, kStripTop - box.y);
          if (cost < least) {
            least = cost;
            best = box;
          }
        }
      }
      taken_.push_back(best);
      taken_.push_back(best);  // another name is worse to cover than a line
      out += svg_text(best.x, best.y + 11,
                      fmt::format("class=\"name\" style=\"fill: {}\"", name.colour), name.text);
    }
    return out;
  }

  struct Name {
    std::string text;
    const char* colour;
    std::vector<Spot> ends;
  };

  const Table& table_;
  double left_ = 0, right_ = 0, low_ = 0, high_ = 0;  // of the axes, in logs
  std::vector<Box> taken_;
  std::vector<Name> wanted_;
};

}  // namespace

std::string plot_svg(const Table& table, const std::string& title) {
  return Plot(table).svg(title);
}

}  // namespace kv
