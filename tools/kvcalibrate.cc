// kvcalibrate: make the profile of a model that the codec needs.

#include "kv/base/folders.hh"
#include "kv/calibrate/profile_job.hh"
#include "kv/codec/cachegen_profile.hh"
#include "kv/codec/rate_control.hh"
#include "model_options.hh"
#include "progress.hh"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>

namespace {

struct Options {
  kv::ModelToolOptions model;
  std::vector<std::string> files;
  bool jsonl = false, no_sensitivity = false, no_map = false, rope = false;
  std::vector<int> levels = {2};
  int restart = 0, back = 1, margin = 0;
  std::int64_t tokens = 32768, window = 2048;
  std::string work_dir, out_dir, codec = "clp";
  kv::OutputOptions output;
};

void declare(CLI::App& app, Options& o) {
  kv::declare_model(app, o.model);
  app.add_option("FILE", o.files,
                 "texts like those whose caches will be coded (default: those of set-up)")
      ->type_name("FILE");
  app.add_flag("--jsonl", o.jsonl, "one document a line, as kvprefill takes them");
  app.add_option("-l,--level", o.levels, "1 near-lossless, 2 standard, 3 small, 4 preview; or 1,2")
      ->type_name("N")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, 4));
  app.add_option("--codec", o.codec, "clp (the default) or cachegen")
      ->type_name("NAME")
      ->check(CLI::IsMember({"clp", "cachegen"}).description(""));
  app.add_flag("--rope", o.rope, "cachegen: of keys as the rotation leaves them");
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
  app.add_option("--margin", o.margin, "classes N eighths of an octave wider, for other texts")
      ->type_name("N")
      ->check(CLI::Range(0, 16));
  app.add_flag("--no-sensitivity,--no-gradients", o.no_sensitivity,
               "steps by the tensors' spread, not by what errors do; faster, larger files");
  app.add_flag("--no-map", o.no_map, "do not measure what the profile's steps cost and do");
  app.add_option("--work", o.work_dir, "folder of the texts' caches (default: OUTPUT.samples)")
      ->type_name("DIR");
  app.add_option("--out-dir", o.out_dir, "write DIR/MODEL.lN.kvp of each level that is not there")
      ->type_name("DIR");
  kv::declare_output(app, o.output);
}

// The mixed texts that set-up leaves for whoever has none of their own.
std::string mixed_texts() {
  std::string where;
  for (const std::string& place : kv::search_folders("KVTOOLS_TEXTS", "texts")) {
    std::string file = place + "/mixed.jsonl";
    if (std::filesystem::exists(file)) return file;
    where += "\n  " + file;
  }
  kv::fail_input("give texts, or - for stdin; those that set-up makes are not in{}", where);
}

std::vector<kv::Document> documents_of(const Options& o) {
  std::vector<kv::Document> documents;
  const bool mixed = o.files.empty();
  for (const std::string& file : mixed ? std::vector{mixed_texts()} : o.files) {
    kv::Input input = kv::Input::open(file);
    if (!o.jsonl && !mixed) {
      documents.push_back(kv::read_text(std::move(input)));
      continue;
    }
    kv::JsonlReader lines(std::move(input));
    while (auto document = lines.next()) documents.push_back(std::move(*document));
  }
  return documents;
}

// Where profiles go: FILE, or DIR/MODEL.lN.kvp of each level.
class Outputs {
 public:
  Outputs(const Options& o, const kv::Invocation& call) : o_(o) {
    if (o.out_dir.empty()) {
      if (o.levels.size() > 1) kv::fail_usage("several levels need --out-dir");
      // Before an hour's work: a terminal or a name that is taken should be said at once.
      only_.emplace(kv::open_output(o.output, call));
    } else if (!o.output.path.empty()) {
      kv::fail_usage("give --output or --out-dir");
    } else {
      std::filesystem::create_directories(o.out_dir);
    }
  }

  std::string path(const std::string& ending) const {
    if (o_.out_dir.empty()) return o_.output.path.empty() ? "-" : o_.output.path;
    const std::string stem = std::filesystem::path(o_.model.model).stem().string();
    return fmt::format("{}/{}{}", o_.out_dir, kv::file_name_of(stem), ending);
  }
  std::string path(int level) const { return path(fmt::format(".l{}.kvp", level)); }
  bool is_there(const std::string& path) const {
    return !o_.out_dir.empty() && !o_.output.force && std::filesystem::exists(path);
  }
  void write(const std::string& path, kv::ByteView bytes) {
    kv::Output output = only_ ? std::move(*only_) : kv::Output::create(path, o_.output.force);
    output.write(bytes);
    output.commit();
  }
  std::string work_dir() const {
    if (!o_.work_dir.empty()) return o_.work_dir;
    if (!o_.out_dir.empty()) return o_.out_dir + "/samples";
    return (o_.output.path.empty() ? "kvcalibrate" : o_.output.path) + ".samples";
  }

 private:
  const Options& o_;
  std::optional<kv::Output> only_;
};

int program_body(const Options& o, const kv::Invocation& call) {
  const kv::Stopwatch watch;
  Outputs outputs(o, call);
  kv::ProfileJobOptions job{.restart = o.restart,
                            .layers_back = o.back,
                            .margin = o.margin,
                            .sensitivity = !o.no_sensitivity,
                            .map = !o.no_map,
                            .work_dir = outputs.work_dir()};
  job.levels.clear();
  for (const int level : o.levels) {
    if (outputs.is_there(outputs.path(level))) {
      kv::note(call, outputs.path(level) + ": is there");
    } else {
      job.levels.push_back(level);
    }
  }
  const bool cachegen = o.codec == "cachegen";
  if (job.levels.empty() && !cachegen) return 0;
  const std::vector<kv::Document> documents = documents_of(o);
  auto session = std::make_unique<kv::Session>(kv::Session::open(o.model.model, o.model.parsed()));
  kv::Progress progress(call.tool + ": prefill", "", call.quiet);
  double total = 1, done = 0;
  const auto work = [&](double amount) {
    done += amount;
    progress.set_share(std::min(1.0, done / total));
    progress.add(1);
  };
  kv::SampleOptions sampling{.work_dir = job.work_dir, .window = o.window, .most_tokens = o.tokens};
  if (job.map && !cachegen) sampling.held_out = 2;
  sampling.on_total = [&](std::int64_t tokens, std::size_t fitted, std::size_t held) {
    total = static_cast<double>(tokens);
    if (!cachegen) total += kv::profile_work(tokens, fitted, held, job);
  };
  sampling.on_tokens = [&](std::int64_t count) { work(static_cast<double>(count)); };
  const kv::Samples samples(*session, documents, sampling);
  if (cachegen) {
    std::vector<std::string> paths;
    for (std::size_t w = 0; w < samples.windows(); ++w) paths.push_back(samples.path(w));
    const kv::CacheGenProfile profile = kv::make_cachegen_profile(paths, o.rope);
    const std::string path = outputs.path(".kvprofile");
    const kv::Bytes bytes = profile.bytes();
    outputs.write(path, bytes);
    kv::note(call, fmt::format("{}: {:016x}, {} bytes, {:.0f} s", path, profile.hash(),
                               bytes.size(), watch.seconds()));
    return 0;
  }
  // What errors do is measured without errors of the arithmetic, as far as nobody asked for those.
  if (o.model.compute == "auto" && session->model->compute() == kv::DType::kBF16) {
    kv::ModelOptions exact = o.model.parsed();
    exact.compute = kv::Compute::kF32;
    session.reset();
    session = std::make_unique<kv::Session>(kv::Session::open(o.model.model, exact));
  }
  job.made_from = fmt::format("{} windows, {} tokens at most{}", samples.fitted(), o.tokens,
                              o.files.empty() ? ", of set-up's mixed texts" : "");
  job.on_phase = [&](const std::string& text) { progress.set_label(call.tool + ": " + text); };
  job.on_work = work;
  kv::make_profiles(*session, samples, job, [&](kv::Profile& profile, double bits) {
    const std::string path = outputs.path(profile.level);
    const kv::Bytes bytes = profile.to_bytes();
    outputs.write(path, bytes);
    std::string text = fmt::format(
        "{}: level {}, {} bytes, {:.0f} s; {:.3f} bits a value of its "
        "texts",
        path, profile.level, bytes.size(), watch.seconds(), bits);
    if (const auto point = kv::expected_at(profile, 0)) {
      text += fmt::format(", {:.3f} of others with a KLD of {:.2g}", point->bits, point->kld);
    }
    progress.hide();
    kv::note(call, text);
  });
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {
      "kvcalibrate", "make the profile of a model that the codec needs",
      "  kvcalibrate -m smollm2 -o smollm2.l2.kvp texts/*.txt\n"
      "  kvcalibrate -m smollm2 -l 1,2,3,4 --out-dir profiles --jsonl texts.jsonl\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
