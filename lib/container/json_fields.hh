#pragma once
// Typed access to a JSON object from outside: every miss is one line with its place. Private to
// the container.

#include "kv/base/error.hh"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace kv {

using nlohmann::json;

class Fields {
 public:
  Fields(const json& object, std::string place) : object_(object), place_(std::move(place)) {}

  const std::string& place() const { return place_; }

  std::int64_t integer(const char* key, std::int64_t low, std::int64_t high) const {
    return integer_in(at(key), key, low, high);
  }
  std::int64_t integer(const char* key, std::int64_t low, std::int64_t high,
                       std::int64_t absent) const {
    return object_.contains(key) ? integer(key, low, high) : absent;
  }
  std::vector<std::int64_t> integers(const char* key, std::int64_t low, std::int64_t high) const {
    std::vector<std::int64_t> values;
    for (const json& value : list(key)) values.push_back(integer_in(value, key, low, high));
    return values;
  }
  double number(const char* key) const {
    const json& value = at(key);
    if (!value.is_number()) fail_input("{}: {} is not a number", place_, key);
    return value.get<double>();
  }
  bool boolean(const char* key, bool absent) const {
    if (!object_.contains(key)) return absent;
    if (!at(key).is_boolean()) fail_input("{}: {} is neither true nor false", place_, key);
    return at(key).get<bool>();
  }
  std::string text(const char* key, const char* absent) const {
    if (!object_.contains(key)) return absent;
    if (!at(key).is_string()) fail_input("{}: {} is not text", place_, key);
    return at(key).get<std::string>();
  }
  std::vector<std::string> texts(const char* key) const {
    std::vector<std::string> values;
    for (const json& value : list(key)) {
      if (!value.is_string()) fail_input("{}: {} holds something that is not text", place_, key);
      values.push_back(value.get<std::string>());
    }
    return values;
  }
  // 32 lower-case hexadecimal digits, or absent.
  std::string fingerprint(const char* key) const {
    std::string value = text(key, "");
    if (!value.empty() &&
        (value.size() != 32 || value.find_first_not_of("0123456789abcdef") != std::string::npos)) {
      fail_input("{}: {} is not a fingerprint of 32 hexadecimal digits", place_, key);
    }
    return value;
  }
  Fields object(const char* key) const {
    if (!at(key).is_object()) fail_input("{}: {} is not an object", place_, key);
    return {at(key), place_ + ": " + key};
  }
  std::vector<Fields> objects(const char* key) const {
    std::vector<Fields> values;
    for (const json& value : list(key)) {
      std::string place = fmt::format("{}: {}[{}]", place_, key, values.size());
      if (!value.is_object()) fail_input("{}: not an object", place);
      values.emplace_back(value, std::move(place));
    }
    return values;
  }

 private:
  const json& at(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) fail_input("{}: {} is missing", place_, key);
    return *found;
  }
  const json& list(const char* key) const {
    static const json kEmpty = json::array();
    if (!object_.contains(key)) return kEmpty;
    if (!at(key).is_array()) fail_input("{}: {} is not a list", place_, key);
    return at(key);
  }
  std::int64_t integer_in(const json& value, const char* key, std::int64_t low,
                          std::int64_t high) const {
    if (!value.is_number_integer() ||
        (value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX)) {
      fail_input("{}: {} is not a whole number", place_, key);
    }
    const auto number = value.get<std::int64_t>();
    if (number < low || number > high) {
      fail_input("{}: {} {} is not within {} and {}", place_, key, number, low, high);
    }
    return number;
  }

  const json& object_;
  std::string place_;
};

}  // namespace kv
