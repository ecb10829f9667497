// rate_quality: what a codec's bytes cost in quality. `windows` cuts texts, `run` measures recipes
// over them, `report` makes tables and a plot of the results.

#include "model_options.hh"
#include "rq_plot.hh"
#include "rq_report.hh"
#include "rq_run.hh"

#include <cstdlib>
#include <filesystem>

namespace {

namespace fs = std::filesystem;

constexpr int kSkipped = 125;

struct Options {
  CLI::App *windows = nullptr, *run = nullptr, *report = nullptr;
  std::string model = "smollm2", data, split = "test";
  kv::WindowOptions window;
  std::optional<std::int64_t> continuation, longchat, musique;
  bool text = false;
  kv::OutputOptions output;

  std::string windows_file, compute = "f32", device = "auto";
  int threads = 0;
  kv::RunOptions measure;
  std::vector<std::string> recipes;
  bool no_copy = false;

  std::vector<std::string> results;
  kv::TableOptions table;
  kv::ReportOptions tell;
  bool json = false;
  std::string plot, title;
};

void declare(CLI::App& app, Options& o) {
  app.require_subcommand(1);
  app.fallthrough();  // -q behind the subcommand too
  o.windows = app.add_subcommand("windows", "cut windows out of the texts, as JSON Lines");
  o.windows->add_option("-m,--model", o.model, "whose tokenizer");
  o.windows->add_option("--data", o.data,
                        "folder with longchat.jsonl and musique.jsonl "
                        "(default: $KVTOOLS_SHARED/data/text)");
  o.windows->add_option("--split", o.split, "test or calibration");
  o.windows->add_option("--tokens", o.window.context, "of context (default: 2048)");
  o.windows->add_option("--continuation", o.continuation,
                        "tokens behind (default: 256 for test, 0 for calibration)");
  o.windows->add_option("--longchat", o.longchat, "windows (default: 6, or 16 for calibration)");
  o.windows->add_option("--musique", o.musique, "windows (default: 4, or 16 for calibration)");
  o.windows->add_flag("--text", o.text, "\"text\" instead of \"tokens\"");
  kv::declare_output(*o.windows, o.output);

  o.run = app.add_subcommand("run", "measure recipes over windows");
  o.run->add_option("-m,--model", o.model, "the model");
  o.run->add_option("--windows", o.windows_file, "what `windows` wrote")->required();
  o.run->add_option("--work", o.measure.work, "folder for caches and results.jsonl")->required();
  o.run->add_option("--recipe", o.recipes, "NAME=SHELL or NAME=ENCODE|||DECODE")->required();
  o.run->add_option("--prefill-flags", o.measure.prefill_flags, "more flags for kvprefill");
  o.run->add_option("--continuation", o.measure.continuation, "tokens of a probe");
  o.run->add_flag("--no-copy", o.no_copy, "leave the copy probe out");
  o.run->add_option("--tools", o.measure.tools, "folder put first in PATH (default: the build's)");
  o.run->add_option("--compute", o.compute, "auto, f32, bf16 or f16 (default: f32)");
  o.run->add_option("--device", o.device, "auto, cpu or cuda");
  o.run->add_option("--threads", o.threads, "processor threads (default: all)");

  o.report = app.add_subcommand("report", "tables of results");
  o.report->add_option("RESULTS", o.results, "results.jsonl")->required();
  o.report->add_option("--probe", o.table.probe, "continuation or copy");
  o.report->add_option("--domain", o.table.domain, "only windows of it");
  o.report->add_option("--only", o.table.only, "only these families");
  o.report->add_option("--seed", o.table.seed, "of the bootstrap");
  o.report->add_option("--rounds", o.table.rounds, "of the bootstrap")
      ->check(CLI::Range(1, 1000000));
  o.report->add_option("--versus", o.tell.versus, "compare every recipe with this one");
  o.report->add_option("--at-kld", o.tell.at_kld, "bits at this mean KLD, for each family");
  o.report->add_option("--versus-family", o.tell.versus_family, "base of --at-kld");
  o.report->add_flag("--json", o.json, "JSON");
  o.report->add_option("--plot", o.plot, "write the curves to FILE.svg");
  o.report->add_option("--title", o.title, "of the plot");
}

int windows_body(const Options& o) {
  std::string folder = o.data;
  if (const char* shared = std::getenv("KVTOOLS_SHARED"); folder.empty() && shared != nullptr) {
    folder = std::string(shared) + "/data/text";
  }
  if (folder.empty() || !fs::exists(folder + "/longchat.jsonl")) {
    fmt::print(stderr, "SKIPPED: no texts in '{}'; give --data or KVTOOLS_SHARED\n", folder);
    return kSkipped;
  }
  kv::WindowOptions options = o.window;
  options.split = kv::parse_split(o.split);
  const bool test = options.split == kv::Split::kTest;
  options.continuation = o.continuation.value_or(test ? 256 : 0);
  options.longchat = o.longchat.value_or(test ? 6 : 16);
  options.musique = o.musique.value_or(test ? 4 : 16);
  const auto checkpoint = kv::Checkpoint::open(o.model);
  const auto tokenizer = kv::Tokenizer::open(checkpoint->tokenizer_path());
  kv::Output output = kv::Output::create(o.output.path, o.output.force);
  for (const kv::Window& window : kv::make_windows(*tokenizer, folder, options)) {
    output.write(kv::as_bytes(kv::window_line(window, o.text ? tokenizer.get() : nullptr)));
  }
  output.commit();
  return 0;
}

int run_body(const Options& o, const kv::Invocation& call) {
  kv::RunOptions options = o.measure;
  options.model = o.model;
  options.compute = {kv::parse_compute(o.compute), kv::parse_device(o.device), o.threads};
  options.copy_probe = !o.no_copy;
  for (const std::string& recipe : o.recipes) options.recipes.push_back(kv::parse_recipe(recipe));
  if (options.tools.empty()) {
    options.tools = fs::read_symlink("/proc/self/exe").parent_path().parent_path() / "tools";
  }
  const kv::RunCounts counts =
      kv::run_recipes(kv::read_windows(o.windows_file), options,
                      [&](const std::string& text) { kv::note(call, text); });
  kv::note(call, fmt::format("{} measured, {} there already, {} failed", counts.measured,
                             counts.there, counts.failed));
  return counts.failed > 0 ? 1 : 0;
}

int report_body(const Options& o) {
  std::vector<kv::WindowResult> results;
  for (const std::string& path : o.results) {
    for (kv::WindowResult& result : kv::read_window_results(path)) {
      results.push_back(std::move(result));
    }
  }
  const kv::Table table = kv::make_table(results, o.table);
  kv::print(o.json ? kv::report_json(table, o.tell) : kv::report_text(table, o.tell));
  if (!o.plot.empty()) {
    kv::Output output = kv::Output::create(o.plot, true);
    output.write(kv::as_bytes(kv::plot_svg(table, o.title)));
    output.commit();
  }
  return 0;
}

int program_body(const Options& o, const kv::Invocation& call) {
  if (o.windows->parsed()) return windows_body(o);
  return o.run->parsed() ? run_body(o, call) : report_body(o);
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {
      "rate_quality", "what a codec's bytes cost in quality",
      "  rate_quality windows --split test -o windows.jsonl\n"
      "  rate_quality run --windows windows.jsonl --work DIR --recipe 'zstd/3=zstd -3|||zstd -d'\n"
      "  rate_quality report DIR/results.jsonl --at-kld 0.003 --plot curves.svg\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
