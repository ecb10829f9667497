// What kvdiff-layers --profile runs: profiling needs models, and kvdiff-layers starts without
// LibTorch.

#include "kv/share/profile.hh"
#include "model_options.hh"
#include "profile_options.hh"
#include "progress.hh"

namespace {

using kv::ProfileToolOptions;

void declare(CLI::App& app, ProfileToolOptions& o) {
  kv::declare_profile(app, o);
  app.add_option("file", o.file, "prompts")->required();
}

int program_body(const ProfileToolOptions& o, const kv::Invocation& call) {
  if (o.models.size() != 2) kv::fail_usage("--profile: give -m twice, the cache's model first");
  const std::vector<kv::Prompt> prompts = kv::read_prompts(kv::Input::open(o.file));
  std::optional<kv::Output> output, plot;
  if (!o.output.empty()) output = kv::Output::create(o.output, o.force);
  if (!o.plot.empty()) plot = kv::Output::create(o.plot, o.force);
  const kv::ModelToolOptions model{.compute = o.compute, .device = o.device, .threads = o.threads};
  const kv::Session from = kv::Session::open(o.models[0], model.parsed());
  const kv::Session to = kv::Session::open(o.models[1], model.parsed());
  kv::Progress progress(call.tool, "", call.quiet);
  kv::ProfileOptions options{.answer_tokens = o.answer_tokens,
                             .step = o.step,
                             .chat = o.chat,
                             .seed = o.seed,
                             .budget = o.budget,
                             .state = o.state};
  if (o.layers >= 0) options.budget = fmt::format("layers:{}", o.layers);
  options.on_progress = [&](const std::string& what, double share) {
    progress.set_label(call.tool + ": " + what);
    progress.set_share(share);
    progress.add(1);
  };
  const kv::SharePlan plan = kv::profile_pair(from, to, prompts, options);
  progress.hide();
  if (output) {
    output->write(kv::as_bytes(kv::plan_json(plan)));
    output->commit();
  }
  if (plot) {
    plot->write(kv::as_bytes(kv::profile_plot(plan)));
    plot->commit();
  }
  kv::print(o.json ? kv::plan_json(plan) : kv::profile_text(plan));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {"kvdiff-layers", "how far two KV caches are apart, layer by layer",
                             "  kvdiff-layers --profile -m A -m B prompts.jsonl -o plan.json\n"};
  return kv::tool_main<ProfileToolOptions>(info, argc, argv, declare, program_body);
}
