#include "profile_state.hh"

#include "kv/base/error.hh"
#include "kv/base/file.hh"
#include "kv/base/json.hh"

#include <nlohmann/json.hpp>

#include <filesystem>

namespace kv {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxBytes = 1u << 30;

json json_of(const PassRecord& record) {
  json groups = json::array();
  for (const GroupRecord& group : record.groups) {
    groups.push_back({group.divergence, group.same, group.nll, group.f1});
  }
  return {{"groups", groups},
          {"sensitivity", record.sensitivity},
          {"own", {record.nll_own, record.f1_own, record.prefills}}};
}

PassRecord record_of(const json& value) {
  PassRecord record;
  for (const json& group : value.at("groups")) {
    record.groups.push_back({group.at(0).get<std::vector<double>>(), group.at(1).get<double>(),
                             group.at(2).get<double>(), group.at(3).get<double>()});
  }
  record.sensitivity = value.at("sensitivity").get<std::vector<double>>();
  const json& own = value.at("own");
  record.nll_own = own.at(0).get<double>();
  record.f1_own = own.at(1).get<double>();
  record.prefills = own.at(2).get<double>();
  return record;
}

}  // namespace

ProfileState::ProfileState(std::string path, std::string description)
    : path_(std::move(path)), description_(std::move(description)) {
  if (path_.empty() || !std::filesystem::exists(path_)) return;
  const Bytes bytes = Input::open(path_).read_all(kMaxBytes);
  if (json_too_deep(as_text(bytes), 16)) fail_input("{}: nested too deeply", path_);
  const json root = json::parse(as_text(bytes), nullptr, /*allow_exceptions=*/false);
  if (!root.is_object() || root.value("profile", json()) != json(description_)) {
    fail_input(
        "{}: not the state of this profile; give the same models, prompts and options, or "
        "remove it",
        path_);
  }
  try {
    for (const auto& [key, value] : root.at("records").items()) records_[key] = record_of(value);
  } catch (const json::exception&) {
    fail_input("{}: damaged; remove it", path_);
  }
}

const PassRecord* ProfileState::find(const std::string& key) const {
  const auto found = records_.find(key);
  return found == records_.end() ? nullptr : &found->second;
}

const PassRecord& ProfileState::keep(const std::string& key, PassRecord record) {
  const PassRecord& kept = records_[key] = std::move(record);
  if (!path_.empty()) save();
  return kept;
}

void ProfileState::save() const {
  json root = {{"profile", description_}, {"records", json::object()}};
  for (const auto& [key, record] : records_) root["records"][key] = json_of(record);
  Output output = Output::create(path_, true);
  output.write(as_bytes(root.dump() + "\n"));
  output.commit();
}

}  // namespace kv
