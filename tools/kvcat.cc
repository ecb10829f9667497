// kvcat: cut and join KV caches.

#include "kv/codec/join.hh"
#include "tool.hh"

namespace {

struct Options {
  std::vector<std::string> files;
  std::string layers, tokens, members;
  std::optional<int> quality;
  bool join = false, no_history = false;
  kv::OutputOptions output;
};

void declare(CLI::App& app, Options& o) {
  app.add_option("file", o.files, "kv streams (default: -)")->type_name("FILE");
  app.add_option("--layers", o.layers, "only these layers: 0:8")->type_name("A:B");
  app.add_option("--tokens", o.tokens, "only these tokens: 0:256")->type_name("A:B");
  app.add_option("--members", o.members, "only these members of each FILE: 0,2 or 1:3")
      ->type_name("LIST");
  app.add_option("--quality", o.quality, "leave out refinements above it: 0 to 255")
      ->type_name("N")
      ->check(CLI::Range(0, 255));
  app.add_flag("--join", o.join, "put the parts of one cache together")
      ->excludes("--layers")
      ->excludes("--tokens")
      ->excludes("--members")
      ->excludes("--quality");
  app.add_flag("--no-history", o.no_history, "leave out which tools made the file");
  kv::declare_output(app, o.output);
}

int program_body(const Options& o, const kv::Invocation& call) {
  kv::TranscodeOptions options;
  if (!o.layers.empty()) options.layers = kv::parse_range(o.layers, "--layers");
  if (!o.tokens.empty()) options.tokens = kv::parse_range(o.tokens, "--tokens");
  if (!o.members.empty()) options.members = kv::parse_ranges(o.members, "--members");
  options.quality = o.quality;
  if (!o.no_history) options.history = {call.tool, call.version, call.arguments};
  std::vector<std::string> files = o.files;
  if (files.empty()) files.push_back("-");
  kv::Output output = kv::open_output(o.output);
  kv::Writer writer(output);
  if (o.join) {
    kv::join(files, writer, options.history);
  } else {
    for (const std::string& file : files) {
      kv::TileSource source(
          file, options.selects() ? kv::TileSource::Access::kSome : kv::TileSource::Access::kAll);
      kv::transcode(source, writer, options);
    }
  }
  output.commit();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {"kvcat", "cut and join KV caches",
                             "  kvcat a.kv b.kv >both.kv\n"
                             "  kvcat --tokens 0:256 report.kv >head.kv\n"
                             "  kvcat --quality 0 report.kvz >preview.kvz\n"
                             "  kvcat --join head.kv tail.kv >report.kv\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
