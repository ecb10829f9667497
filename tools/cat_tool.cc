#include "cat_tool.hh"

namespace kv {

const ToolInfo kCatInfo = {"kvcat", "cut and join KV caches",
                           "  kvcat a.kv b.kv >both.kv\n"
                           "  kvcat --tokens 0:256 report.kv >head.kv\n"
                           "  kvcat --quality 0 report.kvz >preview.kvz\n"
                           "  kvcat --join head.kv tail.kv >report.kv\n"};

void declare_cat(CLI::App& app, CatOptions& o) {
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
  declare_output(app, o.output);
}

int cat_body(const CatOptions& o, const Invocation& call) {
  TranscodeOptions options;
  if (!o.layers.empty()) options.layers = parse_range(o.layers, "--layers");
  if (!o.tokens.empty()) options.tokens = parse_range(o.tokens, "--tokens");
  if (!o.members.empty()) options.members = parse_ranges(o.members, "--members");
  options.quality = o.quality;
  if (!o.no_history) options.history = {call.tool, call.version, call.arguments};
  std::vector<std::string> files = o.files;
  if (files.empty()) files.emplace_back();
  for (std::string& file : files) file = input_path(file, call);
  Output output = open_output(o.output, call);
  Writer writer(output);
  if (o.join) {
    join(files, writer, options.history);
  } else {
    for (const std::string& file : files) {
      TileSource source(file,
                        options.selects() ? TileSource::Access::kSome : TileSource::Access::kAll);
      transcode(source, writer, options);
    }
  }
  output.commit();
  return 0;
}

}  // namespace kv
