// kvconvert: KV caches to and from the files of other programs.

#include "kv/checkpoint/card.hh"
#include "kv/convert/convert.hh"
#include "kv/convert/ids.hh"
#include "kv/tokenizer/tokenizer.hh"
#include "tool.hh"

#include <filesystem>

namespace {

struct Options {
  std::string file, to, from, model, text, ids, dtype, values, backend;
  std::int64_t block = 0;
  kv::StoreOptions store;
  int state_version = 0;
  bool no_rope = false, no_header = false, bos = false, no_bos = false, special = false;
  bool no_history = false;
  int threads = 1;
  kv::OutputOptions output;
};

void declare(CLI::App& app, Options& o) {
  app.add_option("file", o.file, "a kv stream (default: -); with --from a file or folder")
      ->type_name("FILE");
  app.add_option(
         "--to", o.to,
         "write this layout: npy, transformers, llamacpp, vllm, vllm-tier, hicache, lmcache, "
         "lmcache-gds")
      ->type_name("LAYOUT");
  app.add_option("--from", o.from, "read this layout and write a kv stream")
      ->type_name("LAYOUT")
      ->excludes("--to");
  app.add_option("-m,--model", o.model, "with --from: the model that made the cache")
      ->type_name("MODEL");
  app.add_option("--dtype", o.dtype, "f32, f16, bf16, fp8_e4m3, fp8_e5m2 (default: the layout's)")
      ->type_name("DTYPE");
  app.add_flag("--no-rope", o.no_rope, "npy: keys without RoPE, as kv streams have them");
  app.add_option("--block", o.block, "vllm and the stores: tokens of a block")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--backend", o.backend, "vllm: cpu, amx or gpu (default: this machine's)")
      ->type_name("NAME");
  app.add_option("--model-name", o.store.model_name, "the stores: the model as the engine names it")
      ->type_name("NAME");
  app.add_option("--tp", o.store.tp, "the stores: devices that share the heads (default: 1)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  app.add_option("--seed", o.store.seed, "vllm-tier, lmcache: PYTHONHASHSEED (default: theirs)")
      ->type_name("TEXT");
  app.add_flag("--no-header", o.no_header, "lmcache: chunks without headers");
  app.add_option("--values", o.values, "llamacpp: columns (default), or rows for flash attention")
      ->type_name("ORDER");
  app.add_option("--state-version", o.state_version, "llamacpp: version of the file, 2 or 3")
      ->type_name("N")
      ->check(CLI::Range(2, 3));
  app.add_option("--text", o.text, "with --from: the text, where the files have no token ids")
      ->type_name("FILE");
  app.add_option("--ids", o.ids, "with --from: the token ids, likewise")
      ->type_name("FILE")
      ->excludes("--text");
  app.add_flag("--bos", o.bos, "the text has BOS first (default: as the tokenizer does)");
  app.add_flag("--no-bos", o.no_bos, "the text has no BOS first")->excludes("--bos");
  app.add_flag("--special", o.special, "take spelled-out special tokens of the text as such");
  kv::declare_threads(app, o.threads);
  app.add_flag("--no-history", o.no_history, "leave out which tools made the file");
  kv::declare_output(app, o.output);
}

// Of two words the second; nothing given is the first.
bool second(const std::string& given, const char* option, const char* first, const char* other) {
  if (!given.empty() && given != first && given != other) {
    kv::fail_usage("{} {}: give {} or {}", option, given, first, other);
  }
  return given == other;
}

kv::VllmBackend backend_of(const std::string& name) {
  using enum kv::VllmBackend;
  if (name.empty()) return kHere;
  for (const kv::VllmBackend backend : {kCpu, kAmx, kGpu}) {
    if (name == kv::vllm_backend_name(backend)) return backend;
  }
  kv::fail_usage("--backend {}: give cpu, amx or gpu", name);
}

kv::LayoutOptions layout_options(const Options& o) {
  kv::LayoutOptions options;
  if (!o.dtype.empty()) options.dtype = kv::parse_dtype(o.dtype);
  if (o.no_rope) options.rope = false;
  if (!o.values.empty() || o.state_version > 0) {
    options.llama.emplace();
    options.llama->columns = !second(o.values, "--values", "columns", "rows");
    if (o.state_version > 0) options.llama->version = static_cast<std::uint32_t>(o.state_version);
  }
  if (!o.store.model_name.empty() || o.store.tp != 1 || !o.store.seed.empty() || o.no_header) {
    options.store = o.store;
    options.store->headers = !o.no_header;
  }
  if (o.block > 0 || !o.backend.empty()) {
    options.blocks = kv::BlockOptions{o.block, backend_of(o.backend)};
  }
  return options;
}

void export_file(const Options& o, const kv::Invocation& call) {
  const kv::Layout& layout = kv::layout_by_name(o.to);
  if (!o.model.empty() || !o.text.empty() || !o.ids.empty()) {
    kv::fail_usage("-m, --text and --ids: only with --from; a kv stream says what it is");
  }
  if (layout.folder && o.output.path.empty()) {
    kv::fail_usage("{} is a folder: give its name with -o", layout.name);
  }
  std::optional<kv::Output> output;
  if (!layout.folder) output = kv::open_output(o.output, call);
  const kv::LayoutTarget target = {output ? &*output : nullptr, o.output.path, o.output.force};
  kv::TileSource source(o.file, kv::TileSource::Access::kSome);
  const kv::ExportReport report =
      kv::export_cache(source, layout, target, layout_options(o), o.threads);
  if (output) output->commit();
  if (report.token_count < report.of_tokens) {
    kv::note(call, fmt::format("{} of {} tokens: whole blocks only", report.token_count,
                               report.of_tokens));
  }
  if (!report.made_for.empty()) {
    kv::note(call, fmt::format("made for {}; --backend chooses", report.made_for));
  }
  if (report.hidden) kv::note(call, "hidden states (E) are left out");
}

// What stands in for ids that the files do not have.
std::optional<std::vector<std::int32_t>> given_ids(const Options& o,
                                                   const kv::Tokenizer& tokenizer) {
  if (!o.ids.empty()) return kv::read_ids(kv::Input::open(o.ids));
  if (o.text.empty()) return std::nullopt;
  constexpr std::uint64_t kMaxTextBytes = 1u << 30;
  const kv::Bytes text = kv::Input::open(o.text).read_all(kMaxTextBytes);
  std::vector<std::int32_t> ids = tokenizer.encode(kv::as_text(text), o.special);
  if (o.bos || (!o.no_bos && tokenizer.adds_bos())) {
    if (!tokenizer.bos()) kv::fail_usage("--bos: the tokenizer has none");
    ids.insert(ids.begin(), *tokenizer.bos());
  }
  return ids;
}

void import_file(const Options& o, const kv::Invocation& call) {
  const kv::Layout& layout = kv::layout_by_name(o.from);
  if (o.model.empty()) kv::fail_usage("--from: give the model that made the cache with -m");
  if (o.file.empty() || o.file == "-") {
    kv::fail_usage("--from: give the {} by name", layout.folder ? "folder" : "file");
  }
  kv::Output output = kv::open_output(o.output, call);
  const auto checkpoint = kv::Checkpoint::open(o.model);
  const auto tokenizer = kv::Tokenizer::open(checkpoint->tokenizer_path());
  kv::ImportOptions import{kv::identity_of(*checkpoint, tokenizer->fingerprint()),
                           kv::layers_of(checkpoint->config()), checkpoint->config().vocab};
  import.tokens = given_ids(o, *tokenizer);
  import.bos = tokenizer->bos();
  import.id = std::filesystem::path(o.file).filename();
  import.threads = o.threads;
  if (!o.no_history) import.history = {{ call.tool, call.version, call.arguments }};
  kv::import_cache(o.file, layout, layout_options(o), import, output);
  output.commit();
}

int program_body(const Options& o, const kv::Invocation& call) {
  if (o.to.empty() == o.from.empty()) kv::fail_usage("give --to or --from with a layout");
  o.from.empty() ? export_file(o, call) : import_file(o, call);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {"kvconvert", "KV caches to and from the files of other programs",
                             "  kvconvert --to npy -o report.npy report.kv\n"
                             "  kvconvert --from npy -m smollm2 report.npy >report.kv\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
