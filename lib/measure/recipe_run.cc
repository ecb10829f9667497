#include "kv/measure/recipe_run.hh"

#include "kv/base/error.hh"

#include <algorithm>
#include <chrono>

namespace kv {
namespace {

using Clock = std::chrono::steady_clock;

KvCache placed_cache(const Session& session, const Pieces& pieces,
                     std::span<const std::int32_t> prompt, std::int64_t behind) {
  const std::vector<std::int32_t>& ids = pieces.layout().ids;
  const auto parted = std::ranges::mismatch(ids, prompt);
  if (parted.in1 != ids.end()) {
    fail_input("the cache has another text than the prompt, from its token {} on",
               parted.in1 - ids.begin());
  }
  KvCache cache = session.model->make_cache({.capacity = std::ssize(prompt) + behind});
  cache.extend(0, std::ssize(ids));
  return cache;
}

}  // namespace

RecipeRun run_recipe(Stages& stages, const MemoryFile& chunks) {
  RecipeRun run{.work = StageWork{}, .result = MemoryFile("kv")};
  std::vector<std::uint64_t> sizes = {chunks.size_bytes()};
  std::vector<double> times_s;
  std::size_t candidates = stages.size() + 1;  // streams that could be kept
  MemoryFile from("kv");
  for (std::size_t i = 0; i < stages.size(); ++i) {
    MemoryFile to("kv");
    const Clock::time_point began = Clock::now();
    const std::optional<StageWork> work = stages[i]->run(i == 0 ? chunks : from, to);
    times_s.push_back(std::chrono::duration<double>(Clock::now() - began).count());
    if (!work) run.work.reset();
    if (run.work) {
      run.work->row_layers += work->row_layers;
      run.work->flops += work->flops;
    }
    run.in_process = run.in_process && stages[i]->in_process();
    if (stages[i]->fuses()) candidates = std::min(candidates, i + 1);
    sizes.push_back(to.size_bytes());
    from = std::move(to);
  }
  std::size_t kept = 0;
  for (std::size_t i = 1; i < candidates; ++i) {
    if (sizes[i] <= sizes[kept]) kept = i;
  }
  run.bytes = sizes[kept];
  for (std::size_t i = 0; i < times_s.size(); ++i) {
    (i < kept ? run.before_s : run.after_s) += times_s[i];
  }
  run.result = std::move(from);
  return run;
}

Placed::Placed(const Session& session, const std::string& path,
               std::span<const std::int32_t> prompt, std::int64_t behind)
    : pieces_(session, {.paths = {path}}),
      cache_(placed_cache(session, pieces_, prompt, behind)),
      load_(pieces_.load_parts(), cache_, {.threads = std::max(1, session.model->threads() - 1)}) {}

}  // namespace kv
