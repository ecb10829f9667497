#include "kv/stream/scheme.hh"

#include "kv/base/error.hh"

#include <algorithm>
#include <charconv>

namespace kv {
namespace {

constexpr const char* kNames =
    "chatterbox, chatterbox+timer (both also :SHARE), tcp, rack, duplicate:N, red:N, mosh, fec:N";

template <typename T>
T number_of(const std::string& text, std::string_view digits, T least, T most) {
  T value = 0;
  const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (code != std::errc() || end != digits.data() + digits.size() || !(value >= least) ||
      value > most) {
    fail_usage("scheme '{}': give a number from {} to {} behind the colon", text, least, most);
  }
  return value;
}

}  // namespace

Scheme parse_scheme(const std::string& text) {
  const std::size_t colon = text.find(':');
  const std::string name = text.substr(0, colon);
  const bool has_value = colon != std::string::npos;
  const std::string_view value =
      has_value ? std::string_view(text).substr(colon + 1) : std::string_view();
  Scheme scheme;
  scheme.name = text;
  if (name == "chatterbox" || name == "chatterbox+timer") {
    scheme.recovery = name == "chatterbox" ? Recovery::kAtEnd : Recovery::kTimer;
    if (has_value) scheme.redundancy = number_of(text, value, 0.01, 100.0);
    return scheme;
  }
  if (name == "duplicate") {
    scheme.carry = Carry::kNew;
    scheme.recovery = Recovery::kRack;
    scheme.copies = has_value ? number_of(text, value, 2, 8) : 2;
    return scheme;
  }
  if (name == "red") {
    scheme.carry = Carry::kRecent;
    scheme.recovery = Recovery::kRack;
    scheme.depth = has_value ? number_of(text, value, 1, 16) : 2;
    return scheme;
  }
  if (name == "fec") {
    scheme.carry = Carry::kCoded;
    scheme.recovery = Recovery::kRack;
    scheme.depth = has_value ? number_of(text, value, 1, 4) : 1;
    return scheme;
  }
  if (has_value) fail_usage("scheme '{}': '{}' takes no number", text, name);
  if (name == "tcp" || name == "rack") {
    scheme.carry = Carry::kNew;
    scheme.recovery = name == "tcp" ? Recovery::kDupAck : Recovery::kRack;
    scheme.congestion_window = true;
  } else if (name == "mosh") {
    scheme.carry = Carry::kMosh;
    scheme.recovery = Recovery::kTimer;
    scheme.least_timeout = 50 * kMillisecond;
  } else {
    fail_usage("scheme '{}': give one of {}", text, kNames);
  }
  return scheme;
}

std::vector<Scheme> parse_schemes(const std::string& text) {
  std::vector<Scheme> schemes;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t comma = std::min(text.find(',', begin), text.size());
    schemes.push_back(parse_scheme(text.substr(begin, comma - begin)));
    begin = comma + 1;
    for (std::size_t i = 0; i + 1 < schemes.size(); ++i) {
      if (schemes[i].name == schemes.back().name) {
        fail_usage("scheme '{}': given twice", schemes.back().name);
      }
    }
  }
  return schemes;
}

}  // namespace kv
