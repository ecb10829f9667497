// kvdecode: coded KV caches back to raw ones.

#include "kv/codec/transcode.hh"
#include "tool.hh"

namespace {

struct Options {
  std::string file, layers, tokens, members;
  bool stats = false, no_history = false;
  int threads = 1;
  kv::OutputOptions output;
};

void declare(CLI::App& app, Options& o) {
  app.add_option("file", o.file, "a .kvz stream (default: -)")->type_name("FILE");
  app.add_option("--layers", o.layers, "only these layers: 0:8")->type_name("A:B");
  app.add_option("--tokens", o.tokens, "only these tokens: 0:256")->type_name("A:B");
  app.add_option("--members", o.members, "only these members: 0,2 or 1:3")->type_name("LIST");
  app.add_flag("--stats", o.stats, "print the bytes read and written as JSON on stderr");
  kv::declare_threads(app, o.threads);
  app.add_flag("--no-history", o.no_history, "leave out which tools made the file");
  kv::declare_output(app, o.output);
}

int program_body(const Options& o, const kv::Invocation& call) {
  kv::TranscodeOptions options{.codec = &kv::codec_by_name("raw")};
  if (!o.layers.empty()) options.layers = kv::parse_range(o.layers, "--layers");
  if (!o.tokens.empty()) options.tokens = kv::parse_range(o.tokens, "--tokens");
  if (!o.members.empty()) options.members = kv::parse_ranges(o.members, "--members");
  options.threads = o.threads;
  if (!o.no_history) options.history = {call.tool, call.version, call.arguments};
  kv::TileSource source(
      o.file, options.selects() ? kv::TileSource::Access::kSome : kv::TileSource::Access::kAll);
  kv::Output output = kv::open_output(o.output);
  kv::Writer writer(output);
  kv::transcode(source, writer, options);
  output.commit();
  if (o.stats) {
    const std::optional<std::uint64_t> size = source.size_bytes();
    fmt::print(stderr, "{{\"read_bytes\":{},{}\"written_bytes\":{}}}\n", source.read_bytes(),
               size ? fmt::format("\"file_bytes\":{},", *size) : "", output.written_bytes());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {"kvdecode", "coded KV caches back to raw ones",
                             "  kvdecode <report.kvz >report.kv\n"
                             "  kvdecode --layers 0:8 --tokens 0:256 report.kvz >part.kv\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
