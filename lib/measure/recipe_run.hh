#pragma once
// A recipe from the chunks' caches to the cache that the question stands behind.

#include "kv/blend/pieces.hh"
#include "kv/measure/stage.hh"

#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace kv {

struct RecipeRun {
  std::uint64_t bytes = 0;  // of the smallest stream up to the one that is fused, or of all
  double before_s = 0, after_s = 0;  // stages up to that stream, and those behind it
  std::optional<StageWork> work;     // nothing where a stage does not know
  bool in_process = true;
  MemoryFile result;
};
RecipeRun run_recipe(Stages& stages, const MemoryFile& chunks);

// The stream's members, placed one after another, as kvblend -r 0 places them, while they are read.
class Placed {
 public:
  // The tokens must be the first of `prompt`; room for `behind` tokens is left. Throws kInput where
  // they are not, and as Pieces does.
  Placed(const Session& session, const std::string& path, std::span<const std::int32_t> prompt,
         std::int64_t behind);

  KvCache& cache() { return cache_; }
  void wait(std::int64_t layer) { load_.wait(layer); }

 private:
  Pieces pieces_;
  KvCache cache_;
  LayerLoad load_;
};

}  // namespace kv
