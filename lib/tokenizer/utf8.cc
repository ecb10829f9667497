#include "utf8.hh"

namespace kv {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

unsigned char byte_at(std::string_view text, std::size_t at) {
  return static_cast<unsigned char>(text[at]);
}

// Bytes from `at` that are well-formed as far as they go; `whole` says whether they are a
// character. The second byte's range depends on the first (Unicode 15, table 3-7).
std::size_t well_formed(std::string_view text, std::size_t at, bool& whole) {
  const unsigned char lead = byte_at(text, at);
  const std::size_t length = utf8_length(lead);
  whole = length == 1;
  if (length <= 1) return length;
  unsigned char low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  std::size_t n = 1;
  for (; n < length && at + n < text.size(); ++n, low = 0x80, high = 0xBF) {
    const unsigned char byte = byte_at(text, at + n);
    if (byte < low || byte > high) break;
  }
  whole = n == length;
  return n;
}

}  // namespace

std::string valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    bool whole = false;
    const std::size_t n = well_formed(text, at, whole);
    if (whole) {
      out.append(text.substr(at, n));
    } else {
      out.append(kReplacement);
    }
    at += n > 0 ? n : 1;
  }
  return out;
}

std::size_t unfinished_bytes(std::string_view text) {
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const std::size_t at = text.size() - back;
    if ((byte_at(text, at) & 0xC0) == 0x80) continue;
    bool whole = false;
    const std::size_t n = well_formed(text, at, whole);
    return !whole && n == back ? back : 0;
  }
  return 0;
}

void append_utf8(std::string& text, char32_t character) {
  const auto put = [&](std::uint32_t byte) { text += static_cast<char>(byte); };
  if (character < 0x80) {
    put(character);
  } else if (character < 0x800) {
    put(0xC0 | (character >> 6));
    put(0x80 | (character & 0x3F));
  } else if (character < 0x10000) {
    put(0xE0 | (character >> 12));
    put(0x80 | ((character >> 6) & 0x3F));
    put(0x80 | (character & 0x3F));
  } else {
    put(0xF0 | (character >> 18));
    put(0x80 | ((character >> 12) & 0x3F));
    put(0x80 | ((character >> 6) & 0x3F));
    put(0x80 | (character & 0x3F));
  }
}

char32_t next_character(std::string_view text, std::size_t& at) {
  const unsigned char lead = byte_at(text, at);
  const std::size_t length = utf8_length(lead);
  if (length <= 1 || length > text.size() - at) {
    ++at;
    return lead;
  }
  char32_t character = lead & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    character = (character << 6) | (byte_at(text, at + i) & 0x3Fu);
  }
  at += length;
  return character;
}

}  // namespace kv
