#include "decode_tool.hh"

namespace kv {

const ToolInfo kDecodeInfo = {"kvdecode", "coded KV caches back to raw ones",
                              "  kvdecode <report.kvz >report.kv\n"
                              "  kvdecode --layers 0:8 --tokens 0:256 report.kvz >part.kv\n"};

void declare_decode(CLI::App& app, DecodeOptions& o) {
  app.add_option("file", o.file, "a .kvz stream (default: -)")->type_name("FILE");
  app.add_option("--layers", o.layers, "only these layers: 0:8")->type_name("A:B");
  app.add_option("--tokens", o.tokens, "only these tokens: 0:256")->type_name("A:B");
  app.add_option("--members", o.members, "only these members: 0,2 or 1:3")->type_name("LIST");
  app.add_flag("--stats", o.stats, "print the bytes read and written as JSON on stderr");
  declare_threads(app, o.threads);
  app.add_flag("--no-history", o.no_history, "leave out which tools made the file");
  declare_output(app, o.output);
}

int decode_body(const DecodeOptions& o, const Invocation& call) {
  TranscodeOptions options{.codec = &codec_by_name("raw")};
  if (!o.layers.empty()) options.layers = parse_range(o.layers, "--layers");
  if (!o.tokens.empty()) options.tokens = parse_range(o.tokens, "--tokens");
  if (!o.members.empty()) options.members = parse_ranges(o.members, "--members");
  options.threads = o.threads;
  if (!o.no_history) options.history = {call.tool, call.version, call.arguments};
  TileSource source(input_path(o.file, call),
                    options.selects() ? TileSource::Access::kSome : TileSource::Access::kAll);
  Output output = open_output(o.output, call);
  Writer writer(output);
  transcode(source, writer, options);
  output.commit();
  if (o.stats) {
    const std::optional<std::uint64_t> size = source.size_bytes();
    fmt::print(stderr, "{{\"read_bytes\":{},{}\"written_bytes\":{}}}\n", source.read_bytes(),
               size ? fmt::format("\"file_bytes\":{},", *size) : "", output.written_bytes());
  }
  return 0;
}

}  // namespace kv
