#pragma once
// Measures recipes over windows: encode a window's cache, read it back, run the continuation from
// it, and compare the predictions with those from the raw cache.

#include "kv/session/cache_load.hh"
#include "rq_windows.hh"

#include <functional>
#include <string>
#include <vector>

namespace kv {

// `encode` is a shell fragment from a .kv on stdin to bytes on stdout, all of which are counted.
// Where the bytes are no kv stream (zstd), `decode` makes one of them.
struct Recipe {
  std::string name, shell;  // "zstd/19", "zstd -19|||zstd -d"
  std::string encode, decode;
};

// "NAME=ENCODE" or "NAME=ENCODE|||DECODE". Throws kUsage.
Recipe parse_recipe(const std::string& text);

struct RunOptions {
  std::string model = "smollm2";
  ModelOptions compute{.compute = Compute::kF32};
  std::string work;           // folder: caches/, results.jsonl
  std::string tools;          // folder put first in PATH
  std::string prefill_flags;  // more flags for kvprefill, separated by spaces
  std::int64_t continuation = 256;
  bool copy_probe = true;
  std::vector<Recipe> recipes;
};

struct RunCounts {
  std::size_t measured = 0, there = 0, failed = 0;
};

// Appends to WORK/results.jsonl; what stands there already (same setup, window, recipe and shell)
// is not measured again. A recipe that fails is told to `say` and the others go on. Shells find
// RQ_MODEL, RQ_WINDOW, RQ_DOMAIN and RQ_CONTEXT (a file with the context as a line of JSON, for
// kvprefill --jsonl) in their environment. Throws kInput when windows do not fit model and options.
RunCounts run_recipes(const std::vector<Window>& windows, const RunOptions& options,
                      const std::function<void(const std::string&)>& say);

}  // namespace kv
