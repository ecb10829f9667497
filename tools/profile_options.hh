#pragma once
// Options of kvdiff-layers --profile, which it hands on as they are.

#include "tool.hh"

#include <cstdint>
#include <string>
#include <vector>

namespace kv {

struct ProfileToolOptions {
  bool profile = false, chat = false, json = false, force = false;
  std::vector<std::string> models;
  std::string file, output, plot, budget, state, compute = "auto", device = "auto";
  std::int64_t layers = -1, answer_tokens = 32, step = 0;
  std::uint64_t seed = 1;
  int threads = 0;
};

// Those that comparing caches does not have.
inline void declare_profile_only(CLI::App& app, ProfileToolOptions& o) {
  app.add_flag("--profile", o.profile, "of two models: which layers' caches they can share");
  app.add_option("-m,--model", o.models, "profile: the cache's model, and again: who is to use it")
      ->type_name("MODEL")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("-o,--output", o.output, "profile: write the plan to FILE")->type_name("FILE");
  app.add_option("--budget", o.budget, "profile: choose by kld:NATS or layers:N")
      ->type_name("BUDGET");
  app.add_option("--layers", o.layers, "profile: recompute N layers at most")
      ->type_name("N")
      ->excludes("--budget")
      ->check(CLI::Range(0, 1 << 12));
  app.add_option("--answer", o.answer_tokens,
                 "profile: at most N tokens of an answer (default: 32)")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 12));
  app.add_option("--step", o.step, "profile: layers of the first grid (default: a sixth)")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 12));
  app.add_option("--seed", o.seed, "profile: of the intervals (default: 1)")->type_name("SEED");
  app.add_option("--state", o.state, "profile: keep what was measured in FILE, and go on from it")
      ->type_name("FILE");
  app.add_flag("--chat", o.chat, "profile: wrap prompts in the model's chat template");
  app.add_option("--compute", o.compute, "profile: auto, f32, bf16 or f16")->type_name("TYPE");
  app.add_option("--device", o.device, "profile: auto, cpu or cuda")->type_name("DEVICE");
}

// All that profiling takes.
inline void declare_profile(CLI::App& app, ProfileToolOptions& o) {
  declare_profile_only(app, o);
  app.add_flag("--json", o.json, "one JSON object");
  app.add_option("--plot", o.plot, "draw it")->type_name("FILE");
  app.add_flag("-f,--force", o.force, "overwrite");
  app.add_option("--threads", o.threads, "processor threads")->type_name("N");
}

}  // namespace kv
