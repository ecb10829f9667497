#pragma once
// Typed access to JSON from a file: every miss is one line that says where. Private to this folder.

#include "kv/base/error.hh"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace kv {

using nlohmann::json;

inline constexpr std::string_view kForeign = "the file was not written by kvtools, make it again";

// Throws kInput on what is no JSON, on nesting beyond format::kMaxDepth (before anything recurses),
// on a key that stands twice in an object, and on numbers beyond a double.
json parse_json(std::string_view text, const std::string& place);

// Fields of one JSON object, with the object's path in messages.
class JsonObject {
 public:
  JsonObject(const json& value, std::string path, const std::string& place)
      : value_(value), path_(std::move(path)), place_(place) {
    if (!value.is_object()) fail_input("{}: {} is no object; {}", place, name(), kForeign);
  }

  [[noreturn]] void refuse(std::string_view key, std::string_view cause) const {
    fail_input("{}: \"{}{}\" {}; {}", place_, prefix(), key, cause, kForeign);
  }

  bool has(const char* key) const { return value_.contains(key); }
  const json& at(const char* key) const {
    const auto found = value_.find(key);
    if (found == value_.end()) refuse(key, "is missing");
    return *found;
  }
  std::string text(const char* key) const {
    const json& value = at(key);
    if (!value.is_string()) refuse(key, "is not a string");
    return value.get<std::string>();
  }
  bool boolean(const char* key) const {
    const json& value = at(key);
    if (!value.is_boolean()) refuse(key, "is not true or false");
    return value.get<bool>();
  }
  std::int64_t integer(const char* key, std::int64_t least, std::int64_t most) const {
    return integer(key, at(key), least, most);
  }
  std::int64_t integer(const char* key, const json& value, std::int64_t least,
                       std::int64_t most) const {
    // An unsigned number above int64 would wrap in get<int64_t>.
    const bool huge = value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX;
    if (!value.is_number_integer() || huge || value.get<std::int64_t>() < least ||
        value.get<std::int64_t>() > most) {
      refuse(key, fmt::format("is no integer from {} to {}", least, most));
    }
    return value.get<std::int64_t>();
  }
  double number(const char* key) const {
    const json& value = at(key);
    if (!value.is_number()) refuse(key, "is not a number");
    return value.get<double>();
  }
  const json& list(const char* key) const {
    const json& value = at(key);
    if (!value.is_array()) refuse(key, "is not a list");
    return value;
  }
  template <typename F>
  void each(const char* key, F&& use) const {
    std::size_t i = 0;
    for (const json& value : list(key)) {
      use(JsonObject(value, fmt::format("{}{}[{}]", prefix(), key, i++), place_));
    }
  }
  JsonObject object(const char* key) const { return {at(key), prefix() + key, place_}; }

 private:
  std::string prefix() const { return path_.empty() ? "" : path_ + "."; }
  std::string name() const { return path_.empty() ? "the JSON" : fmt::format("\"{}\"", path_); }

  const json& value_;
  std::string path_;
  const std::string& place_;
};

}  // namespace kv
