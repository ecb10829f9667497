#pragma once
// Names and messages that hold bytes from outside must not steer a terminal or fake a second line.

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace kv {

// Control characters, also those of C1 in UTF-8, become \xNN; everything else stays.
inline std::string without_controls(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const unsigned next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0u;
    const bool c1 = byte == 0xC2 && next >= 0x80 && next < 0xA0;
    if (byte >= 0x20 && byte != 0x7F && !c1) {
      out += text[i];
      continue;
    }
    out += fmt::format("\\x{:02x}", c1 ? next : byte);
    if (c1) ++i;
  }
  return out;
}

}  // namespace kv
