#include "kv/eval/report.hh"

#include <nlohmann/json.hpp>

#include <cmath>

namespace kv {
namespace {

using nlohmann::ordered_json;

template <typename T>
ordered_json json_of(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json json_of(const std::optional<Interval>& interval) {
  if (!interval) return nullptr;
  return {{"value", interval->value}, {"low", interval->low}, {"high", interval->high}};
}

ordered_json prompts_of(const Summary& summary, const RecipeSummary& own) {
  ordered_json prompts = ordered_json::array();
  for (std::size_t i = 0; i < summary.ids.size(); ++i) {
    const Result& result = *own.results[i];
    ordered_json prompt = {{"id", summary.ids[i]}};
    for (const Metric metric : kMetrics) {
      prompt[metric_name(metric)] = json_of(metric_of(metric, result, *summary.full.results[i]));
    }
    prompt.update({{"bytes", result.bytes},
                   {"before_s", result.before_s},
                   {"ttft_s", result.ttft_s},
                   {"computed", json_of(result.computed)},
                   {"answer", result.answer}});
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

ordered_json recipe_of(const Summary& summary, const RecipeSummary& own) {
  ordered_json recipe = {{"recipe", own.recipe}};
  for (const Metric metric : kMetrics) recipe[metric_name(metric)] = json_of(own.mean(metric));
  recipe.update({{"kld_p99", own.kld_p99},
                 {"bytes", own.bytes},
                 {"before_s", own.before_s},
                 {"ttft_s", own.ttft_s},
                 {"computed", json_of(own.computed)},
                 {"flops_share", json_of(own.flops_share)},
                 {"in_process", own.results.front()->in_process}});
  if (own.recipe != summary.versus && !own.recipe.empty()) {
    ordered_json versus = {{"kld_ratio", json_of(own.kld_ratio)}};
    for (const Metric metric : kMetrics) {
      versus[metric_name(metric)] = json_of(own.difference[static_cast<std::size_t>(metric)]);
    }
    recipe["versus"] = std::move(versus);
  }
  recipe["prompts"] = prompts_of(summary, own);
  return recipe;
}

}  // namespace

std::string report_json(const Summary& summary, const std::vector<Check>& checks) {
  ordered_json recipes = ordered_json::array();
  for (const RecipeSummary& own : summary.recipes) recipes.push_back(recipe_of(summary, own));
  ordered_json judged = ordered_json::array();
  for (const Check& check : checks) {
    judged.push_back({{"recipe", check.recipe},
                      {"check", check.name},
                      {"passed", check.passed},
                      {"said", check.said}});
  }
  return ordered_json{{"kveval", 1},
                      {"setup", summary.setup},
                      {"prompts", summary.ids.size()},
                      {"tokens", summary.tokens},
                      {"predictions", summary.predictions},
                      {"versus", summary.versus},
                      {"full", recipe_of(summary, summary.full)},
                      {"recipes", std::move(recipes)},
                      {"checks", std::move(judged)}}
             .dump(1, ' ', false, ordered_json::error_handler_t::replace) +
         "\n";
}

}  // namespace kv
