#pragma once
// What a recipe consists of: steps from one kv stream to the next.

#include "kv/base/memory_file.hh"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kv {

// What a stage ran of the model.
struct StageWork {
  std::int64_t row_layers = 0;  // tokens through layers, summed over layers
  double flops = 0;
};

class Stage {
 public:
  virtual ~Stage() = default;
  virtual bool in_process() const = 0;
  // Whether it makes one cache for a question out of several: what comes before it can be done, and
  // kept, before there is a question; what it makes cannot.
  virtual bool fuses() const = 0;
  // Nothing where it does not know.
  virtual std::optional<StageWork> run(const MemoryFile& from, const MemoryFile& to) = 0;
};

// By name, for the shell and for what stands in double quotes.
using Variables = std::map<std::string, std::string>;
using Stages = std::vector<std::unique_ptr<Stage>>;
// Stages of a recipe for a prompt. Throws kUsage.
using MakeStages = std::function<Stages(const std::string& recipe, const Variables& variables)>;

// `bash -o pipefail -c TEXT`, with the variables in its environment. Its run() throws kIo where the
// status is not 0. It fuses where the text has the word kvblend.
std::unique_ptr<Stage> shell_stage(std::string text, Variables variables);

}  // namespace kv
