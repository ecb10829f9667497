// kvprefill: run a model over texts and keep its KV cache.

#include "kv/prefill/prefill.hh"
#include "model_options.hh"
#include "progress.hh"

namespace {

struct Options {
  kv::ModelToolOptions model;
  std::vector<std::string> files;
  bool jsonl = false, bos = false, no_bos = false, special = false;
  bool only_new = false, importance = false, no_history = false;
  std::int64_t split = 0;
  std::string prefix, out_dir, shard = "1/1", dtype, hidden;
  kv::OutputOptions output;
};

void declare(CLI::App& app, Options& o) {
  kv::declare_model(app, o.model);
  app.add_option("FILE", o.files, "texts; stdin without one")->type_name("FILE");
  app.add_flag("--jsonl", o.jsonl,
               "one document a line: {\"id\", \"text\"} or {\"id\", \"tokens\"}");
  app.add_option("--split", o.split, "chunks of N tokens, each prefilled alone")->type_name("N");
  app.add_option("--prefix", o.prefix, "go on from the cache in FILE")->type_name("FILE");
  app.add_flag("--only-new", o.only_new, "behind a prefix: leave the prefix out of the output");
  app.add_flag("--bos", o.bos, "put BOS first (default: as the tokenizer does)");
  app.add_flag("--no-bos", o.no_bos, "put no BOS first")->excludes("--bos");
  app.add_flag("--special", o.special, "take spelled-out special tokens as such");
  kv::declare_output(app, o.output);
  app.add_option("--out-dir", o.out_dir, "a batch: one file a document, existing ones are skipped")
      ->type_name("DIR")
      ->excludes("--output");
  app.add_option("--shard", o.shard, "take only documents I, I+N, I+2N ...")->type_name("I/N");
  app.add_option("--dtype", o.dtype, "f32, f16, bf16, fp8_e4m3, fp8_e5m2 (default: bf16)")
      ->type_name("DTYPE");
  app.add_option("--hidden", o.hidden, "keep E at the inputs of these layers: 0,8,16")
      ->type_name("LAYERS");
  app.add_flag("--importance", o.importance,
               "measure how much each token matters to later ones, for kvencode");
  app.add_flag("--no-history", o.no_history, "leave out which tool made the file");
}

kv::PrefillOptions prefill_options(const Options& o, const kv::Invocation& call) {
  kv::PrefillOptions options{.split = o.split, .parse_special = o.special, .only_new = o.only_new};
  if (o.bos || o.no_bos) options.bos = o.bos;
  options.importance = o.importance;
  options.dtype = o.model.file_dtype(o.dtype);
  if (!o.hidden.empty()) options.hidden_layers = kv::parse_indices(o.hidden, "--hidden");
  if (!o.no_history) options.history = {{call.tool, call.version, call.arguments}};
  return options;
}

// The documents of all files, one after another.
class Documents {
 public:
  Documents(const Options& options, kv::Progress& progress)
      : files_(options.files), jsonl_(options.jsonl), progress_(progress) {
    if (files_.empty()) files_.push_back("-");
  }

  std::optional<kv::Document> next() {
    while (true) {
      if (lines_) {
        if (std::optional<kv::Document> document = lines_->next()) {
          tell(lines_->share());
          return document;
        }
        lines_.reset();
      }
      if (at_ == files_.size()) return std::nullopt;
      kv::Input input = kv::Input::open(files_[at_++]);
      if (!jsonl_) {
        tell(0);
        return kv::read_text(std::move(input));
      }
      lines_.emplace(std::move(input));
    }
  }

 private:
  // Share of the run when the document that was just given out is not done yet.
  void tell(double of_file) {
    progress_.set_share((static_cast<double>(at_ - 1) + of_file) /
                        static_cast<double>(files_.size()));
  }

  std::vector<std::string> files_;
  bool jsonl_;
  kv::Progress& progress_;
  std::size_t at_ = 0;
  std::optional<kv::JsonlReader> lines_;
};

int program_body(const Options& o, const kv::Invocation& call) {
  const kv::Shard shard = kv::parse_shard(o.shard);
  // Before the model is loaded: a terminal or a name that is taken should be said at once.
  std::optional<kv::Output> output;
  if (o.out_dir.empty()) output = kv::open_output(o.output, call);
  const kv::Session session = kv::Session::open(o.model.model, o.model.parsed());
  const kv::PrefillOptions options = prefill_options(o, call);
  kv::Prefiller prefiller(session, options);
  if (!o.prefix.empty()) {
    auto prefix = kv::read_cache(kv::Input::open(o.prefix), session,
                                 {.extra_tokens = session.model->config().context,
                                  .keep_unrotated_keys = true,
                                  .hidden_layers = options.hidden_layers});
    if (!prefix) kv::fail_input("{}: empty, no cache", o.prefix);
    prefiller.set_prefix(std::move(*prefix));
  }
  kv::Progress progress(call.tool, "tokens", call.quiet);
  Documents documents(o, progress);
  const auto next = [&] { return documents.next(); };
  const auto on_tokens = [&](std::int64_t count) { progress.add(count); };
  if (!o.out_dir.empty()) {
    const kv::BatchCounts counts =
        run_batch(prefiller, next, {o.out_dir, shard, o.output.force}, on_tokens);
    kv::note(call, fmt::format("{} written, {} there already", counts.written, counts.skipped));
    return 0;
  }
  kv::Writer writer(*output);
  for (std::uint64_t number = 0; const auto document = next(); ++number) {
    if (shard.takes(number)) prefiller.write(*document, writer, on_tokens);
  }
  output->commit();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {"kvprefill", "run a model over texts and keep its KV cache",
                             "  kvprefill -m smollm2 report.txt >report.kv\n"
                             "  kvprefill -m smollm2 --jsonl docs.jsonl --out-dir caches\n"
                             "  kvprefill -m smollm2 --split 256 report.txt >chunks.kv\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
