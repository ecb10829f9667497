#include "kv/base/rate.hh"

#include "kv/base/error.hh"

#include <charconv>
#include <cmath>
#include <string_view>

namespace kv {

double parse_rate(const std::string& text, const char* option) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, code] = std::from_chars(text.data(), end, value);
  double unit = 1;
  if (code == std::errc() && rest + 1 == end) {
    const std::size_t power = std::string_view("kMGT").find(*rest);
    unit = power == std::string_view::npos ? 0 : std::pow(1000, 1 + static_cast<double>(power));
  } else if (rest != end) {
    unit = 0;
  }
  if (code != std::errc() || !std::isfinite(value) || value * unit <= 0) {
    fail_usage("{} '{}': give bytes a second, for example 50M or 4.8G", option, text);
  }
  return value * unit;
}

}  // namespace kv
