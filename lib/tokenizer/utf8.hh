#pragma once
// UTF-8 by hand where a library would cost a copy. Private to the folder.

#include <cstdint>
#include <string>
#include <string_view>

namespace kv {

// Bytes of the sequence that `lead` begins, 1 to 4; 0 when no sequence begins so.
inline std::size_t utf8_length(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xC2) return 0;
  if (lead < 0xE0) return 2;
  if (lead < 0xF0) return 3;
  return lead < 0xF5 ? 4 : 0;
}

// Valid UTF-8: each maximal subpart of an ill-formed sequence becomes U+FFFD (Unicode 15, 3.9).
std::string valid_utf8(std::string_view text);

// Bytes at the end of `text` that may be the beginning of a character, 0 to 3.
std::size_t unfinished_bytes(std::string_view text);

void append_utf8(std::string& text, char32_t character);
// The character at `at` of valid UTF-8; moves `at` behind it.
char32_t next_character(std::string_view text, std::size_t& at);

}  // namespace kv
