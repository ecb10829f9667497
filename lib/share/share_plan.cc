#include "kv/share/share_plan.hh"

#include "kv/base/error.hh"
#include "kv/base/json.hh"

#include <nlohmann/json.hpp>

#include <charconv>
#include <cmath>

namespace kv {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kFormat = "kvtools share plan";
constexpr std::int64_t kVersion = 1;
constexpr std::int64_t kMaxLayers = 1 << 12;
constexpr double kSmallShare = 0.1;  // of full reuse's divergence: as good as none

ordered_json json_of(const ModelIdentity& model) {
  return {{"name", model.name},
          {"architecture", model.architecture},
          {"fingerprint", model.fingerprint},
          {"adapter", model.adapter},
          {"base_fingerprint", model.base_fingerprint},
          {"tokenizer_fingerprint", model.tokenizer_fingerprint}};
}

ordered_json json_of(const Estimate& estimate) {
  return {{"mean", estimate.mean}, {"low", estimate.low}, {"high", estimate.high}};
}

ordered_json json_of(const SharePoint& point) {
  return {{"first", point.group.first},
          {"end", point.group.end},
          {"cost", point.cost},
          {"kld_chosen_by", json_of(point.chosen_by)},
          {"kld", json_of(point.divergence)},
          {"kld_p99", point.divergence_p99},
          {"top1", point.top1},
          {"nll", point.nll},
          {"nll_own", point.nll_own},
          {"f1", point.f1},
          {"f1_own", point.f1_own}};
}

// Fields by name; a miss is one line.
class Fields {
 public:
  Fields(const ordered_json& object, const std::string& place) : object_(object), place_(place) {
    if (!object.is_object()) fail_input("{}: not a share plan", place);
  }
  const ordered_json& at(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) refuse(key, "is missing");
    return *found;
  }
  [[noreturn]] void refuse(const char* key, const char* why) const {
    fail_input("{}: '{}' {}; make the plan again with kvdiff-layers --profile", place_, key, why);
  }
  std::string text(const char* key) const {
    if (!at(key).is_string()) refuse(key, "is no text");
    return at(key).get<std::string>();
  }
  double number(const char* key) const {
    if (!at(key).is_number() || !std::isfinite(at(key).get<double>())) {
      refuse(key, "is no number");
    }
    return at(key).get<double>();
  }
  std::int64_t integer(const char* key, std::int64_t least, std::int64_t most) const {
    const ordered_json& value = at(key);
    if (!value.is_number_integer() || value.get<double>() < static_cast<double>(least) ||
        value.get<double>() > static_cast<double>(most)) {
      refuse(key, "is out of its range");
    }
    return value.get<std::int64_t>();
  }
  const ordered_json& list(const char* key) const {
    if (!at(key).is_array() || at(key).size() > static_cast<std::size_t>(kMaxLayers)) {
      refuse(key, "is no list, or too long");
    }
    return at(key);
  }
  Fields object(const char* key) const { return {at(key), place_}; }

 private:
  const ordered_json& object_;
  const std::string& place_;
};

ModelIdentity model_of(const Fields& fields) {
  return {fields.text("name"),        fields.text("architecture"),
          fields.text("fingerprint"), fields.text("tokenizer_fingerprint"),
          fields.text("adapter"),     fields.text("base_fingerprint")};
}

Estimate estimate_of(const Fields& fields) {
  return {fields.number("mean"), fields.number("low"), fields.number("high")};
}

SharePoint point_of(const Fields& fields, std::int64_t layers) {
  SharePoint point;
  point.group.first = fields.integer("first", 0, layers);
  point.group.end = fields.integer("end", point.group.first, layers);
  point.cost = fields.number("cost");
  point.chosen_by = estimate_of(fields.object("kld_chosen_by"));
  point.divergence = estimate_of(fields.object("kld"));
  point.divergence_p99 = fields.number("kld_p99");
  point.top1 = fields.number("top1");
  point.nll = fields.number("nll");
  point.nll_own = fields.number("nll_own");
  point.f1 = fields.number("f1");
  point.f1_own = fields.number("f1_own");
  return point;
}

}  // namespace

std::string plan_json(const SharePlan& plan) {
  const LayerGroup& group = plan.point().group;
  ordered_json out = {{"format", kFormat},
                      {"version", kVersion},
                      {"from", json_of(plan.from)},
                      {"to", json_of(plan.to)},
                      {"layers", plan.layers},
                      {"first_different_layer", plan.first_different},
                      {"group", {{"first", group.first}, {"end", group.end}}},
                      {"hidden_layer", nullptr},
                      {"chosen", plan.chosen},
                      {"why", plan.why},
                      {"prompts", plan.prompts},
                      {"prompts_apart", plan.prompts_apart},
                      {"prefills_a_prompt", plan.prefills_a_prompt},
                      {"sensitivity", plan.sensitivity}};
  if (group.count() > 0 && group.first > 0) out["hidden_layer"] = group.first;
  out["frontier"] = ordered_json::array();
  for (const SharePoint& point : plan.frontier) out["frontier"].push_back(json_of(point));
  return out.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

SharePlan parse_plan(std::string_view text, const std::string& place) {
  if (json_too_deep(text, 16)) fail_input("{}: nested too deeply", place);
  const ordered_json root = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  const Fields fields(root, place);
  if (fields.text("format") != kFormat) fail_input("{}: not a share plan", place);
  if (fields.integer("version", 1, kMaxLayers) != kVersion) {
    fields.refuse("version", "is not one that this version knows");
  }
  SharePlan plan;
  plan.from = model_of(fields.object("from"));
  plan.to = model_of(fields.object("to"));
  plan.layers = fields.integer("layers", 1, kMaxLayers);
  plan.first_different = fields.integer("first_different_layer", 0, plan.layers);
  plan.why = fields.text("why");
  plan.prompts = fields.integer("prompts", 0, std::int64_t{1} << 40);
  plan.prompts_apart = fields.integer("prompts_apart", 0, std::int64_t{1} << 40);
  plan.prefills_a_prompt = fields.number("prefills_a_prompt");
  for (const ordered_json& value : fields.list("sensitivity")) {
    if (!value.is_number()) fields.refuse("sensitivity", "holds what is no number");
    plan.sensitivity.push_back(value.get<double>());
  }
  for (const ordered_json& point : fields.list("frontier")) {
    plan.frontier.push_back(point_of(Fields(point, place), plan.layers));
  }
  if (plan.frontier.empty()) fields.refuse("frontier", "is empty");
  plan.chosen = fields.integer("chosen", 0, std::ssize(plan.frontier) - 1);
  const Fields group = fields.object("group");
  if (plan.point().group !=
      LayerGroup{group.integer("first", 0, plan.layers), group.integer("end", 0, plan.layers)}) {
    fields.refuse("group", "is not the point that is chosen");
  }
  return plan;
}

Budget parse_budget(const std::string& text) {
  const std::size_t colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  Budget budget{.by_layers = kind == "layers"};
  bool good = colon != std::string::npos && (budget.by_layers || kind == "kld");
  if (good) {
    const char* end = text.data() + text.size();
    const auto [at, error] = std::from_chars(text.data() + colon + 1, end, budget.most);
    good = error == std::errc() && at == end && budget.most >= 0;
  }
  if (!good) fail_usage("budget '{}': give kld:NATS or layers:N", text);
  return budget;
}

std::int64_t choose_point(const SharePlan& plan, const std::string& text) {
  const Budget budget = parse_budget(text);
  std::int64_t found = -1;
  for (std::int64_t i = 0; i < std::ssize(plan.frontier); ++i) {
    const SharePoint& point = plan.frontier[static_cast<std::size_t>(i)];
    if (!budget.by_layers && point.divergence.mean <= budget.most) return i;
    if (budget.by_layers && static_cast<double>(point.group.count()) <= budget.most) found = i;
  }
  if (found < 0) {
    fail(ErrorKind::kNo, "no group of layers is within {}; the best has a divergence of {:.4g}",
         text, plan.frontier.back().divergence.mean);
  }
  return found;
}

std::int64_t default_point(const SharePlan& plan) {
  const double full = plan.frontier.front().chosen_by.mean;
  for (std::int64_t i = 0; i < std::ssize(plan.frontier); ++i) {
    if (plan.frontier[static_cast<std::size_t>(i)].chosen_by.mean <= kSmallShare * full) return i;
  }
  return std::ssize(plan.frontier) - 1;
}

}  // namespace kv
