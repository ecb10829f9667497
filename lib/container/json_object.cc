#include "kv/container/json_object.hh"

#include "kv/container/format.hh"
#include "kv/container/meta_check.hh"

#include <set>
#include <vector>

namespace kv {
namespace {

// A pass that builds nothing. (A callback given to json::parse would do, but makes it take
// quadratic time on long lists.)
class Check : public nlohmann::json_sax<json> {
 public:
  explicit Check(const std::string& place) : place_(place) {}

  bool start_object(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    // Two parsers may disagree about a doubled key.
    if (keys_.back().insert(name).second) return true;
    fail_input("{}: key {} stands twice in an object; {}", place_, printable(name), kForeign);
  }
  bool parse_error(std::size_t byte, const std::string&, const json::exception& error) override {
    if (dynamic_cast<const json::out_of_range*>(&error) != nullptr) {
      fail_input("{}: a number is beyond a double's range; {}", place_, kForeign);
    }
    fail_input("{}: not JSON at its byte {}; {}", place_, byte, kForeign);
  }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }

 private:
  bool open() {
    if (keys_.size() >= format::kMaxDepth) {
      fail_input("{}: nested deeper than {}; {}", place_, format::kMaxDepth, kForeign);
    }
    keys_.emplace_back();
    return true;
  }
  bool close() {
    keys_.pop_back();
    return true;
  }

  const std::string& place_;
  std::vector<std::set<std::string>> keys_;  // of the objects that are open; empty for lists
};

}  // namespace

json parse_json(std::string_view text, const std::string& place) {
  if (text.starts_with("\xEF\xBB\xBF")) {
    fail_input("{}: begins with a byte order mark; {}", place, kForeign);
  }
  Check check(place);
  json::sax_parse(text.begin(), text.end(), &check);
  return json::parse(text.begin(), text.end());
}

}  // namespace kv
