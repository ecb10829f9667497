// kvencode: compress KV caches.

#include "kv/codec/transcode.hh"
#include "tool.hh"

#include <algorithm>
#include <thread>

namespace {

struct Options {
  std::string file;
  std::string profile;
  int step = 0;
  int level = -1;
  bool no_importance = false, lossless = false, no_history = false;
  std::string codec = "planes";
  std::int64_t tokens_per_tile = 0;
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  kv::OutputOptions output;
};

void declare(CLI::App& app, Options& o) {
  app.add_option("file", o.file, "a .kv stream (default: -)")->type_name("FILE");
  app.add_option("-l,--level", o.level, "0: lossless; 1 to 9 are lossy")
      ->type_name("N")
      ->check(CLI::Range(0, 9));
  app.add_flag("--lossless", o.lossless, "level 0: every bit comes back");
  app.add_option("--profile", o.profile, "FILE of kvcalibrate")->type_name("FILE");
  app.add_option("--step", o.step, "eighths of an octave");
  app.add_flag("--no-importance", o.no_importance, "one step for all tokens");
  app.add_option("--codec", o.codec, "planes or raw")->type_name("NAME");
  app.add_option("--tokens-per-tile", o.tokens_per_tile, "cut larger tiles; what is read at once")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 26));
  app.add_option("--threads", o.threads, "processor threads (default: all)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  app.add_flag("--no-history", o.no_history, "leave out which tools made the file");
  kv::declare_output(app, o.output);
}

int program_body(const Options& o, const kv::Invocation& call) {
  kv::TranscodeOptions options{.tokens_per_tile = o.tokens_per_tile};
  if (!o.profile.empty()) {
    options.clp = kv::ClpOptions{.profile = kv::Profile::open(o.profile), .base_step = o.step,
                                 .use_importance = !o.no_importance};
  } else {
    options.codec = &kv::codec_by_name(o.codec);
  }
  options.threads = o.threads;
  if (!o.no_history) options.history = {call.tool, call.version, call.arguments};
  kv::TileSource source(o.file);
  kv::Output output = kv::open_output(o.output);
  kv::Writer writer(output);
  kv::transcode(source, writer, options);
  output.commit();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {"kvencode", "compress KV caches",
                             "  kvencode --lossless <report.kv >report.kvz\n"
                             "  kvprefill -m smollm2 report.txt | kvencode -l 0 -o report.kvz\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
