// kvdiff-layers: how far two KV caches are apart, layer by layer.

#include "kv/diff/diff.hh"
#include "profile_options.hh"

#include <unistd.h>

#include <filesystem>

namespace {

struct Options {
  std::vector<std::string> files;
  std::string by = "layer", plot;
  bool json = false, csv = false, statistics = false, force = false;
  kv::DiffOptions diff;
  kv::ProfileToolOptions profile;
};

void declare(CLI::App& app, Options& o) {
  app.add_option("file", o.files, "the cache, and the one compared with it; or prompts")
      ->type_name("A B")
      ->required()
      ->expected(1, 2);
  app.add_option("--by", o.by, "a row a layer (default), head, channel or token")
      ->type_name("WHAT");
  app.add_option("--bound", o.diff.bound, "tell the share of tokens over it (default: 0.1)")
      ->type_name("ERROR");
  app.add_option("--max-rel-l2", o.diff.max_rel_l2, "exit 1 when a layer's error is over it")
      ->type_name("ERROR");
  app.add_option("--max-token", o.diff.max_token, "exit 1 when a token's in a layer is")
      ->type_name("ERROR");
  app.add_flag("--stats", o.statistics, "of each file alone: variances and entropies");
  app.add_flag("--across-models", o.diff.across_models, "they may be of different models");
  app.add_flag("--across-texts", o.diff.across_texts, "and of different texts");
  app.add_flag("--json", o.json, "one JSON object");
  app.add_flag("--csv", o.csv, "comma-separated rows")->excludes("--json");
  app.add_option("--plot", o.plot, "draw errors by layer and token in FILE, SVG")
      ->type_name("FILE");
  app.add_flag("-f,--force", o.force, "overwrite it");
  kv::declare_threads(app, o.diff.threads);
  kv::declare_profile_only(app, o.profile);
}

// Models need LibTorch, whose start would cost every comparison of files a third of a second.
[[noreturn]] void run_profile(const kv::Invocation& call) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  std::string program = self.parent_path() / "kvdiff-profile";
  if (!std::filesystem::exists(program, error)) {  // installed: no command of its own
    program = self.parent_path().parent_path() / "libexec/kvtools/kvdiff-profile";
  }
  std::vector<std::string> words = {program};
  words.insert(words.end(), call.arguments.begin(), call.arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  kv::fail(kv::ErrorKind::kDevice,
           "--profile: {} does not run; this build has no LibTorch, or not all of it is installed",
           program);
}

void require_profile(const kv::ProfileToolOptions& o) {
  if (!o.models.empty() || !o.output.empty() || !o.budget.empty() || o.layers >= 0) {
    kv::fail_usage("-m, -o, --budget and --layers: only with --profile");
  }
}

int tell_statistics(const Options& o) {
  for (const std::string& file : o.files) {
    const kv::Statistics found = kv::statistics(file, o.diff.threads);
    kv::print(o.json  ? kv::statistics_json(file, found)
              : o.csv ? kv::statistics_csv(found)
                      : kv::statistics_text(file, found));
  }
  return 0;
}

int program_body(const Options& o, const kv::Invocation& call) {
  if (o.profile.profile) run_profile(call);
  require_profile(o.profile);
  if (o.statistics) return tell_statistics(o);
  if (o.files.size() != 2) kv::fail_usage("one cache only; give two, or --stats");
  kv::DiffOptions options = o.diff;
  options.by = kv::parse_diff_by(o.by);
  std::optional<kv::Output> plot;
  if (!o.plot.empty()) plot = kv::Output::create(o.plot, o.force);
  if (plot) options.heat_columns = 160;
  const kv::DiffResult result = kv::diff(o.files[0], o.files[1], options);
  const kv::DiffReport report{o.files[0], o.files[1], options.by, options.bound,
                              isatty(STDOUT_FILENO) == 1};
  kv::print(o.json  ? kv::diff_json(report, result)
            : o.csv ? kv::diff_csv(report, result)
                    : kv::diff_text(report, result));
  if (plot) {
    plot->write(kv::as_bytes(kv::diff_heat_map(report, result)));
    plot->commit();
  }
  if (!result.offence.empty()) kv::fail(kv::ErrorKind::kNo, "{}", result.offence);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {
      "kvdiff-layers", "how far two KV caches are apart, layer by layer",
      "  kvdiff-layers report.kv <(kvdecode report.kvz)\n"
      "  kvdiff-layers --max-rel-l2 0.05 old.kv new.kv >/dev/null || echo far\n"
      "  kvdiff-layers --stats report.kv\n"
      "  kvdiff-layers --profile -m smollm2 -m smollm2+short prompts.jsonl -o plan.json\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
