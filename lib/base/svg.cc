#include "kv/base/svg.hh"

#include <fmt/format.h>

namespace kv {
namespace {

constexpr std::string_view kStyle =
    R"(text { font: 12px system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; }
.faint { fill: #57606a; }
.page { fill: #ffffff; }
.grid { stroke: #d8dee4; stroke-width: 1; }
.frame { stroke: #8c959f; stroke-width: 1; fill: none; }
)";
constexpr std::string_view kDarkStyle =
    R"(text { fill: #e6edf3; }
.faint { fill: #9da7b3; }
.page { fill: #0d1117; }
.grid { stroke: #30363d; }
.frame { stroke: #6e7681; }
)";

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (static_cast<unsigned char>(c) >= 0x20) {
      out += c;
    }
  }
  return out;
}

}  // namespace

std::string svg_document(double width, double height, std::string_view style,
                         std::string_view dark_style, std::string_view body) {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" "
      "height=\"{1:.0f}\" role=\"img\">\n"
      "<style>\n{2}{3}@media (prefers-color-scheme: dark) {{\n{4}{5}}}\n</style>\n"
      "<rect class=\"page\" width=\"{0:.0f}\" height=\"{1:.0f}\"/>\n{6}</svg>\n",
      width, height, kStyle, style, kDarkStyle, dark_style, body);
}

std::string svg_text(double x, double y, std::string_view attributes, std::string_view text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, attributes,
                     escaped(text));
}

std::string svg_line(double x1, double y1, double x2, double y2, std::string_view attributes) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x1, y1,
                     x2, y2, attributes);
}

std::string svg_box(double x, double y, double width, double height, std::string_view attributes) {
  return fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" {}/>\n", x,
                     y, width, height, attributes);
}

}  // namespace kv
