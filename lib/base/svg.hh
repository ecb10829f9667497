#pragma once
// Pictures as SVG, for simple ones need no plotting program: what all of ours have in common. They
// follow the viewer's light or dark scheme; a text holds no markup.

#include <array>
#include <string>
#include <string_view>

namespace kv {

// Of curves and bars: over 3:1 on white and on near black.
inline constexpr std::array kSvgColours = {"#3b82c4", "#d9730d", "#3f9142", "#d64550",
                                           "#8e63c7", "#17929b", "#a1683a", "#d0569a",
                                           "#7d8590", "#8a8f1f", "#5f6ee0", "#b07d00"};

// A whole file. Classes that are there: title, faint (texts), grid, frame (lines). `style` and
// `dark_style` are more rules of CSS, the latter for the dark scheme.
std::string svg_document(double width, double height, std::string_view style,
                         std::string_view dark_style, std::string_view body);

// `attributes` as SVG has them; `text` as it is to be read.
std::string svg_text(double x, double y, std::string_view attributes, std::string_view text);
std::string svg_line(double x1, double y1, double x2, double y2, std::string_view attributes);
std::string svg_box(double x, double y, double width, double height, std::string_view attributes);

}  // namespace kv
