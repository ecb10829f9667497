// kveval: what recipes do to answers, beside a full prefill of the same prompts.

#include "kv/eval/report.hh"
#include "kv/measure/measure_all.hh"
#include "progress.hh"
#include "recipe_stages.hh"

#include <algorithm>

namespace {

struct Options {
  kv::ModelToolOptions model;
  std::string file, work, junit, baseline, plot, shard = "1/1", dtype, title = "kveval";
  std::vector<std::string> recipes;
  kv::MeasureOptions measure;
  kv::SummaryOptions summary;
  kv::Limits limits;
  bool json = false, force = false;
};

void declare(CLI::App& app, Options& o) {
  kv::declare_model(app, o.model);
  app.add_option("FILE", o.file, "prompts, a JSON object a line (default: -)")->type_name("FILE");
  app.add_option("--recipe", o.recipes, "what is done to the caches; may be repeated")
      ->type_name("SHELL")
      ->required()
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--question", o.measure.question_format,
                 "how a question stands behind the text, {} being it")
      ->type_name("FORMAT");
  app.add_flag("--special", o.measure.parse_special, "take spelled-out special tokens as such");
  app.add_flag("--whole", o.measure.whole, "chunks are one text, prefilled as one");
  app.add_flag("--importance", o.measure.importance, "as kvprefill has it, of the recipes' caches");
  app.add_option("--dtype", o.dtype, "of the recipes' caches (default: bf16)")->type_name("DTYPE");
  app.add_option("-n,--next", o.measure.next_tokens,
                 "compare the next N tokens, and answer in so many (default: 32)")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--versus", o.summary.versus,
                 "what the others are held against (default: the first)")
      ->type_name("SHELL");
  app.add_option("--seed", o.summary.seed, "of the intervals (default: 1)")->type_name("SEED");
  app.add_option("--work", o.work, "keep results in FILE, and go on from those it has")
      ->type_name("FILE");
  app.add_option("--shard", o.shard, "take only prompts I, I+N, I+2N ...")->type_name("I/N");
  app.add_option("--keep", o.measure.keep, "keep each recipe's cache in DIR")->type_name("DIR");
  app.add_flag("--json", o.json, "tell it as JSON, with each prompt's figures");
  app.add_option("--junit", o.junit, "write the checks to FILE as JUnit's XML")->type_name("FILE");
  app.add_option("--plot", o.plot, "draw the divergences as SVG to FILE")->type_name("FILE");
  app.add_option("--title", o.title, "of the plot")->type_name("TEXT");
  app.add_flag("-f,--force", o.force, "overwrite these files");
  app.add_option("--baseline", o.baseline, "exit 1 when worse than in this report of --json")
      ->type_name("FILE");
  const auto limit = [&](const char* name, std::optional<double>& value, const char* text,
                         const char* type) { app.add_option(name, value, text)->type_name(type); };
  limit("--max-kld", o.limits.max_kld, "exit 1 when a recipe's mean KL divergence is larger",
        "NATS");
  limit("--max-kld-p99", o.limits.max_kld_p99, "likewise its 99th percentile over tokens", "NATS");
  limit("--max-kld-ratio", o.limits.max_kld_ratio, "likewise its mean, times that of --versus",
        "X");
  limit("--min-top1", o.limits.min_top1, "exit 1 when fewer tokens, 0 to 1, are the same", "SHARE");
  limit("--max-nll", o.limits.max_nll, "exit 1 when right answers lose more, a token", "NATS");
  limit("--min-f1", o.limits.min_f1, "exit 1 when the mean F1 of answers is smaller", "F1");
  limit("--max-bytes", o.limits.max_bytes, "exit 1 when a prompt takes more, on average", "BYTES");
  limit("--max-ttft", o.limits.max_ttft_s, "exit 1 when the median first token is later",
        "SECONDS");
}

void write_file(const std::string& path, bool force, const std::string& text) {
  if (path.empty()) return;
  kv::Output output = kv::Output::create(path, force);
  output.write(kv::as_bytes(text));
  output.commit();
}

int program_body(const Options& o, const kv::Invocation& call) {
  const kv::Shard shard = kv::parse_shard(o.shard);
  if (!o.summary.versus.empty() && std::ranges::count(o.recipes, o.summary.versus) == 0) {
    kv::fail_usage("--versus '{}': not among the recipes", o.summary.versus);
  }
  for (const std::string* path : {&o.junit, &o.plot}) {  // now, not when all is measured
    if (!path->empty()) kv::Output::create(*path, o.force);
  }
  std::vector<kv::Result> results;
  std::optional<kv::ResultLog> log;
  if (!o.work.empty()) {
    log.emplace(o.work);
    results = kv::read_results(o.work);
  }
  std::optional<kv::Baseline> baseline;
  if (!o.baseline.empty()) baseline = kv::read_baseline(o.baseline);
  const std::vector<kv::EvalPrompt> given = kv::read_eval_prompts(kv::Input::open(o.file));
  kv::ModelOptions model_options = o.model.parsed();
  model_options.with_head = true;
  const kv::Session session = kv::Session::open(o.model.model, model_options);
  kv::MeasureOptions options = o.measure;
  options.dtype = o.model.file_dtype(o.dtype);
  options.make_stages = kv::recipe_stages(session, o.model, call.quiet);
  for (const std::string& recipe : o.recipes) {
    options.make_stages(recipe, {{"KVEVAL_QUESTION", "?"}, {"KVEVAL_ID", "?"}});
  }
  kv::Measurer measurer(session, std::move(options));
  std::vector<kv::PreparedPrompt> prompts;
  std::vector<std::string> fingerprints;
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (!shard.takes(i)) continue;
    prompts.push_back(measurer.prepare(given[i]));
    fingerprints.push_back(prompts.back().fingerprint);
  }
  if (prompts.empty()) kv::fail_usage("--shard {}: there are {} prompts", o.shard, given.size());
  kv::Progress progress(call.tool, "", call.quiet);
  kv::measure_all(measurer, prompts, o.recipes, results,
                  [&](const kv::Result& result, double share) {
                    if (log) log->add(result);
                    progress.set_share(share);
                    progress.add(1);
                  });
  progress.hide();

  const kv::Summary summary = kv::summarise(results, fingerprints, o.recipes, o.summary);
  std::vector<kv::Check> checks = kv::check_limits(summary, o.limits);
  if (baseline) {
    const std::vector<kv::Check> more = kv::check_baseline(summary, *baseline, o.summary.seed);
    checks.insert(checks.end(), more.begin(), more.end());
  }
  write_file(o.junit, true, kv::report_junit(summary, checks));
  write_file(o.plot, true, kv::report_svg(summary, o.title));
  kv::print(o.json ? kv::report_json(summary, checks) : kv::report_text(summary, checks));
  bool good = true;
  for (const kv::Check& check : checks) good = good && check.passed;
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {
      "kveval", "what recipes do to answers, beside a full prefill of the same prompts",
      "  kveval -m smollm2 --recipe 'kvencode -l 3 | kvdecode' --max-kld 0.05 prompts.jsonl\n"
      "  kveval -m smollm2 --recipe 'kvblend -r 0' --recipe 'kvblend -r 15%' prompts.jsonl\n"
      "  kveval -m smollm2 --recipe 'kvencode -l 2' --baseline old.json prompts.jsonl\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
