// kvcalibrate: make the profile that the codec needs of a model.

#include "kv/calibrate/calibrate.hh"
#include "kv/calibrate/sensitivity.hh"
#include "model_options.hh"
#include "progress.hh"

namespace {

struct Options {
  kv::ModelToolOptions model;
  std::vector<std::string> files;
  std::string work_dir = "/tmp/kvcal";
  std::int64_t tokens = 16384, window = 2048;
  double balance = 0, step = 0.7, epsilon = 0.03;
  int restart = 0, back = 1;
  kv::OutputOptions output;
};

void declare(CLI::App& app, Options& o) {
  kv::declare_model(app, o.model);
  app.add_option("FILE", o.files, "JSON Lines")->type_name("FILE");
  app.add_option("--work", o.work_dir, "");
  app.add_option("--tokens", o.tokens, "");
  app.add_option("--window", o.window, "");
  app.add_option("--step", o.step, "");
  app.add_option("--epsilon", o.epsilon, "");
  app.add_option("--balance", o.balance, "");
  app.add_option("--restart", o.restart, "");
  app.add_option("--back", o.back, "");
  kv::declare_output(app, o.output);
}

int program_body(const Options& o, const kv::Invocation& call) {
  const kv::Session session = kv::Session::open(o.model.model, o.model.parsed());
  std::vector<kv::Document> documents;
  for (const std::string& file : o.files) {
    kv::JsonlReader lines(kv::Input::open(file));
    while (auto d = lines.next()) documents.push_back(std::move(*d));
  }
  kv::Progress progress(call.tool, "tokens", call.quiet);
  const kv::Samples samples(session, documents,
                            {.work_dir = o.work_dir,
                             .window = o.window,
                             .most_tokens = o.tokens,
                             .on_tokens = [&](std::int64_t n) { progress.add(n); }});
  kv::CalibrateOptions options{.steps = kv::steps_from_rms(samples, o.step),
                               .restart = o.restart,
                               .layers_back = o.back,
                               .metric_epsilon = o.epsilon};
  kv::CalibrateResult result = kv::calibrate(samples, options);
  kv::note(call, fmt::format("{:.4f} bits a value", result.bits));
  if (o.balance > 0) {
    const kv::StepTable divergence = kv::measure_sensitivity(session, samples, result.profile, {});
    for (const auto& [tensor, kld] : divergence) {
      fmt::print(stderr, "{}{} step {:.4g} kld {:.3g}\n", tensor.first,
                 static_cast<char>(tensor.second), options.steps.at(tensor), kld);
    }
    options.steps = kv::balanced_steps(options.steps, divergence, o.balance);
    result = kv::calibrate(samples, options);
  }
  kv::note(call, fmt::format("{:.4f} bits a value", result.bits));
  kv::Output output = kv::open_output(o.output);
  output.write(result.profile.to_bytes());
  output.commit();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {"kvcalibrate", "make a codec's profile of a model", ""};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
