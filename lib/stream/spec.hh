#pragma once
// Values of options that look like NAME:FIRST,SECOND... Private to the folder.

#include "kv/base/error.hh"
#include "kv/stream/time.hh"

#include <charconv>
#include <cmath>
#include <string>
#include <vector>

namespace kv {

class Spec {
 public:
  // `option` for messages. The last field of a file name may have no comma in it.
  Spec(const char* option, const std::string& text) : option_(option), text_(text) {
    const std::size_t colon = text.find(':');
    name_ = text.substr(0, colon);
    if (colon == std::string::npos) return;
    for (std::size_t begin = colon + 1; begin <= text.size();) {
      const std::size_t comma = std::min(text.find(',', begin), text.size());
      fields_.push_back(text.substr(begin, comma - begin));
      begin = comma + 1;
    }
  }

  const std::string& name() const { return name_; }
  std::size_t size() const { return fields_.size(); }
  const std::string& text(std::size_t i) const { return fields_[i]; }

  // Throws kUsage outside of [least, most].
  double number(std::size_t i, double least, double most) const {
    const std::string& field = fields_[i];
    double value = 0;
    const auto [end, code] = std::from_chars(field.data(), field.data() + field.size(), value);
    if (code != std::errc() || end != field.data() + field.size() || !(value >= least) ||
        value > most) {
      fail_usage("{} '{}': '{}' is not a number from {:g} to {:g}", option_, text_, field, least,
                 most);
    }
    return value;
  }
  TimeNs ms(std::size_t i, double least, double most) const {
    return static_cast<TimeNs>(std::llround(number(i, least, most) * 1e6));
  }

 private:
  std::string option_, text_, name_;
  std::vector<std::string> fields_;
};

}  // namespace kv
