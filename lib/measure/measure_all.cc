#include "kv/measure/measure_all.hh"

#include <set>
#include <utility>

namespace kv {
namespace {

// Chunks' caches, the full prefill and what it says take about as long as three recipes.
constexpr double kPromptWork = 3;

struct Task {
  const PreparedPrompt* prompt;
  bool full;
  std::vector<std::string> recipes;
};

std::vector<Task> tasks_of(const std::vector<PreparedPrompt>& prompts,
                           const std::vector<std::string>& recipes,
                           const std::vector<Result>& results) {
  std::set<std::pair<std::string, std::string>> done;
  for (const Result& result : results) done.insert({result.prompt, result.recipe});
  std::vector<Task> tasks;
  for (const PreparedPrompt& prompt : prompts) {
    Task task{&prompt, !done.contains({prompt.fingerprint, ""}), {}};
    for (const std::string& recipe : recipes) {
      // Also not twice, where it is given twice.
      if (done.insert({prompt.fingerprint, recipe}).second) task.recipes.push_back(recipe);
    }
    if (task.full || !task.recipes.empty()) tasks.push_back(std::move(task));
  }
  return tasks;
}

}  // namespace

void measure_all(Measurer& measurer, const std::vector<PreparedPrompt>& prompts,
                 const std::vector<std::string>& recipes, std::vector<Result>& results,
                 const std::function<void(const Result&, double)>& on_result) {
  const std::vector<Task> tasks = tasks_of(prompts, recipes, results);
  double all = 0, before = 0;
  for (const Task& task : tasks) all += kPromptWork + static_cast<double>(task.recipes.size());
  for (const Task& task : tasks) {
    double done = before + kPromptWork;
    measurer.run(*task.prompt, task.full, task.recipes, [&](const Result& measured) {
      results.push_back(as_kept(measured));
      if (!measured.recipe.empty()) ++done;
      on_result(results.back(), done / all);
    });
    before += kPromptWork + static_cast<double>(task.recipes.size());
  }
}

}  // namespace kv
