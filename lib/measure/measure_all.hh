#pragma once
// All prompts and recipes that were not measured before.

#include "kv/measure/measure.hh"

#include <functional>
#include <string>
#include <vector>

namespace kv {

// Adds to `results`, in which some may be, and tells `on_result` each new one with the share of the
// work, 0 to 1, that is then done. Recipes of a prompt are measured together, against one prefill.
void measure_all(Measurer& measurer, const std::vector<PreparedPrompt>& prompts,
                 const std::vector<std::string>& recipes, std::vector<Result>& results,
                 const std::function<void(const Result&, double)>& on_result);

}  // namespace kv
