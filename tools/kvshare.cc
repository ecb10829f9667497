// kvshare: make a model's KV cache into one of another fine-tune of the same base.

#include "kv/base/rate.hh"
#include "kv/share/share.hh"
#include "model_options.hh"
#include "progress.hh"

#include <nlohmann/json.hpp>

namespace {

using nlohmann::ordered_json;

struct Options {
  kv::ModelToolOptions model;
  std::string file, plan, budget, layers, hidden_model, dtype, read_rate;
  bool no_history = false, stats = false;
  kv::OutputOptions output;
};

void declare(CLI::App& app, Options& o) {
  kv::declare_model(app, o.model);
  app.add_option("file", o.file, "a cache of the other model (default: -)")->type_name("FILE");
  app.add_option("--plan", o.plan, "which layers to recompute; of kvdiff-layers --profile")
      ->type_name("FILE");
  app.add_option("--budget", o.budget, "another point of the plan: kld:0.02 or layers:8")
      ->type_name("BUDGET")
      ->needs("--plan");
  app.add_option("--layers", o.layers, "instead of a plan: 15:25, or none")
      ->type_name("RANGE")
      ->excludes("--plan");
  app.add_option("--compute-hidden", o.hidden_model,
                 "MODEL, which made the cache, makes the E that the file does not keep")
      ->type_name("MODEL");
  app.add_option("--read-rate", o.read_rate, "read no faster than this, to measure: 50M")
      ->type_name("RATE");
  kv::declare_output(app, o.output);
  app.add_option("--dtype", o.dtype, "f32, f16, bf16, fp8_e4m3, fp8_e5m2 (default: the file's)")
      ->type_name("DTYPE");
  app.add_flag("--stats", o.stats, "print counts and times as JSON on stderr");
  app.add_flag("--no-history", o.no_history, "leave out which tools made the file");
}

kv::LayerGroup group_of(const std::string& text, std::int64_t layers) {
  if (text == "none") return {};
  const kv::Range range = kv::parse_range(text, "--layers");
  return {range.first, range.last < 0 ? layers : range.last};
}

kv::SharePlan read_plan(const Options& o) {
  constexpr std::uint64_t kMaxBytes = 16u << 20;
  kv::Input input = kv::Input::open(o.plan);
  kv::SharePlan plan = kv::parse_plan(kv::as_text(input.read_all(kMaxBytes)), input.name());
  if (!o.budget.empty()) plan.chosen = kv::choose_point(plan, o.budget);
  return plan;
}

void require_plans_model(const kv::SharePlan& plan, const std::string& name,
                         const kv::ModelIdentity& model) {
  if (plan.to.fingerprint == model.fingerprint) return;
  kv::fail_input("{}: a plan for {} ({}), not for {} ({}); profile this pair with kvdiff-layers",
                 name, plan.to.name, plan.to.fingerprint, model.name, model.fingerprint);
}

int program_body(const Options& o, const kv::Invocation& call) {
  if (o.plan.empty() == o.layers.empty()) kv::fail_usage("give --plan or --layers");
  const double rate = o.read_rate.empty() ? 0 : kv::parse_rate(o.read_rate, "--read-rate");
  std::optional<kv::SharePlan> plan;
  if (!o.plan.empty()) plan = read_plan(o);
  kv::Output output = kv::open_output(o.output, call);
  const kv::Stopwatch since;
  kv::ModelOptions options = o.model.parsed();
  options.weights_later = true;
  const kv::Session session = kv::Session::open(o.model.model, options);
  if (plan) require_plans_model(*plan, o.plan, session.identity);
  kv::ShareOptions share{.plan = plan ? &*plan : nullptr, .bytes_per_s = rate};
  share.group =
      plan ? plan->point().group : group_of(o.layers, std::ssize(session.model->config().layers));
  std::optional<kv::Session> other;
  if (!o.hidden_model.empty()) other = kv::Session::open(o.hidden_model, o.model.parsed());
  if (other) share.hidden_from = &*other;
  if (!o.dtype.empty()) share.dtype = kv::parse_dtype(o.dtype);
  if (!o.no_history) share.history = {{call.tool, call.version, call.arguments}};
  kv::Share job(kv::Input::open(o.file), session, std::move(share));
  if (job.group().count() > 0) session.model->load_weights();
  const double model_s = since.seconds();
  kv::Writer writer(output);
  const kv::ShareReport report = job.run(writer);
  output.commit();
  if (o.stats) {
    const kv::LayerGroup& group = job.group();
    const ordered_json line = {{"tokens", report.tokens},
                               {"layers", report.layers},
                               {"recomputed", {group.first, group.end}},
                               {"read_bytes", report.read_bytes},
                               {"model_load_s", model_s},
                               {"hidden_s", report.hidden_s},
                               {"load_s", report.load_s},
                               {"compute_s", report.compute_s},
                               {"total_s", report.total_s},
                               {"compute", kv::dtype_name(session.model->compute())},
                               {"device", session.model->device()}};
    fmt::print(stderr, "{}\n", line.dump());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {
      "kvshare", "make a model's KV cache into one of another fine-tune of the same base",
      "  kvprefill -m smollm2 --hidden 15 report.txt >base.kv\n"
      "  kvshare -m smollm2+short --plan plan.json base.kv | kvgen -m smollm2+short 'Who signed "
      "it?'\n"
      "  kvshare -m smollm2+short --layers 15:25 base.kv -o short.kv\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
