// kvcalibrate: make the profile of a model that the codec needs.

#include "kv/calibrate/sensitivity.hh"
#include "model_options.hh"
#include "progress.hh"

#include <array>

namespace {

struct Options {
  kv::ModelToolOptions model;
  std::vector<std::string> files;
  bool jsonl = false, no_sensitivity = false;
  int level = 2, restart = 0, back = 1;
  std::int64_t tokens = 32768, window = 2048;
  std::string work_dir;
  kv::OutputOptions output;
};

void declare(CLI::App& app, Options& o) {
  kv::declare_model(app, o.model);
  app.add_option("FILE", o.files, "texts like those whose caches will be coded; stdin without one")
      ->type_name("FILE");
  app.add_flag("--jsonl", o.jsonl, "one document a line, as kvprefill takes them");
  app.add_option("-l,--level", o.level, "1 near-lossless, 2 standard, 3 small, 4 preview")
      ->type_name("N")
      ->check(CLI::Range(1, 4));
  app.add_option("--tokens", o.tokens, "of the texts, at most (default: 32768)")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{256}, std::int64_t{1} << 26));
  app.add_option("--window", o.window, "tokens prefilled together (default: 2048)")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{64}, std::int64_t{1} << 15));
  app.add_option("--restart", o.restart, "every N layers nothing is predicted from before")
      ->type_name("N")
      ->check(CLI::Range(0, 4096));
  app.add_option("--back", o.back, "layers that a prediction looks back, 1 or 2")
      ->type_name("N")
      ->check(CLI::Range(1, 2));
  app.add_flag("--no-sensitivity", o.no_sensitivity,
               "steps by the tensors' spread, not by what errors do; faster, larger files");
  app.add_option("--work", o.work_dir, "folder of the texts' caches (default: OUTPUT.samples)")
      ->type_name("DIR");
  kv::declare_output(app, o.output);
}

std::vector<kv::Document> documents_of(const Options& o) {
  std::vector<kv::Document> documents;
  for (const std::string& file : o.files.empty() ? std::vector<std::string>{"-"} : o.files) {
    kv::Input input = kv::Input::open(file);
    if (!o.jsonl) {
      documents.push_back(kv::read_text(std::move(input)));
      continue;
    }
    kv::JsonlReader lines(std::move(input));
    while (auto document = lines.next()) documents.push_back(std::move(*document));
  }
  return documents;
}

int program_body(const Options& o, const kv::Invocation& call) {
  // Before an hour's work: a terminal or a name that is taken should be said at once.
  kv::Output output = kv::open_output(o.output);
  const std::vector<kv::Document> documents = documents_of(o);
  const kv::Session session = kv::Session::open(o.model.model, o.model.parsed());
  kv::Progress progress(call.tool, "tokens", call.quiet);
  const kv::Samples samples(
      session, documents,
      {.work_dir = o.work_dir.empty()
                       ? (o.output.path.empty() ? "kvcalibrate" : o.output.path) + ".samples"
                       : o.work_dir,
       .window = o.window,
       .most_tokens = o.tokens,
       .on_tokens = [&](std::int64_t count) { progress.add(count); }});
  kv::CalibrateOptions options{.level = o.level, .restart = o.restart, .layers_back = o.back};
  options.made_from = fmt::format("{} windows, {} tokens at most", samples.windows(), o.tokens);
  // Measured on SmolLM2: shares of the spread, and of the balanced steps, by level.
  constexpr std::array<double, 5> kShares = {0, 0.65, 1.3, 2.4, 3.6};
  const double share = kShares[static_cast<std::size_t>(o.level)];
  constexpr double kSpread = 0.7;
  options.steps = kv::steps_from_rms(samples, o.no_sensitivity ? kSpread * share : kSpread);
  kv::CalibrateResult result = kv::calibrate(samples, options);
  if (!o.no_sensitivity) {
    kv::note(call, "measuring what errors do");
    const kv::StepTable divergence = kv::measure_sensitivity(session, samples, result.profile, {});
    options.steps = kv::balanced_steps(options.steps, divergence, share);
    result = kv::calibrate(samples, options);
  }
  kv::note(call, fmt::format("{:.3f} bits a value of these texts", result.bits));
  output.write(result.profile.to_bytes());
  output.commit();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {
      "kvcalibrate", "make the profile of a model that the codec needs",
      "  kvcalibrate -m smollm2 -o smollm2.l2.kvp texts/*.txt\n"
      "  kvcalibrate -m smollm2 -l 1 --jsonl -o smollm2.l1.kvp texts.jsonl\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
