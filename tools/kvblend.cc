// kvblend: fuse KV caches of texts that were prefilled alone.

#include "kv/blend/fuse.hh"
#include "kv/blend/fused_member.hh"
#include "kv/documents/documents.hh"
#include "model_options.hh"
#include "progress.hh"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace {

using nlohmann::ordered_json;

struct Options {
  kv::ModelToolOptions model;
  std::vector<std::string> files;
  std::string order, prefix, separator, suffix, suffix_file;
  std::string amount = "15%", select = "hkvd", measure = "v", gradual, dtype;
  std::int64_t check_layer = -1;
  std::uint64_t seed = 0;
  bool keep_bos = false, special = false, stats = false, no_history = false;
  kv::OutputOptions output;
};

void declare(CLI::App& app, Options& o) {
  kv::declare_model(app, o.model);
  app.add_option("FILE", o.files,
                 "caches to fuse, each with one or more members; stdin without one")
      ->type_name("FILE");
  app.add_option("--order", o.order, "members by number, counted from 0 over all files: 2,0,1")
      ->type_name("LIST");
  app.add_option("--prefix", o.prefix, "the cache in FILE stands before all others")
      ->type_name("FILE");
  app.add_option("--separator", o.separator, "TEXT between any two, computed")->type_name("TEXT");
  app.add_option("--suffix", o.suffix, "TEXT behind the last, computed: a question")
      ->type_name("TEXT");
  app.add_option("--suffix-file", o.suffix_file, "the suffix is in FILE")
      ->type_name("FILE")
      ->excludes("--suffix");
  app.add_flag("--special", o.special, "take spelled-out special tokens as such");
  app.add_flag("--keep-bos", o.keep_bos, "leave each member's BOS where it is placed");
  app.add_option("-r,--recompute", o.amount, "how many tokens: 15% or a number (default: 15%)")
      ->type_name("AMOUNT");
  app.add_option("--select", o.select, "which: hkvd, first, qattn, random, none (default: hkvd)")
      ->type_name("RULE");
  app.add_option("--check-layer", o.check_layer, "hkvd: choose at this layer (default: 1)")
      ->type_name("LAYER")
      ->check(CLI::Range(0, 1 << 12));
  app.add_option("--measure", o.measure, "hkvd: by the deviation of v, k or kv (default: v)")
      ->type_name("PART");
  app.add_option("--gradual", o.gradual, "hkvd: amounts at the check layer and those behind it")
      ->type_name("AMOUNTS");
  app.add_option("--seed", o.seed, "of random (default: 0)")->type_name("SEED");
  kv::declare_output(app, o.output);
  app.add_option("--dtype", o.dtype, "f32, f16, bf16, fp8_e4m3, fp8_e5m2 (default: as computed)")
      ->type_name("DTYPE");
  app.add_flag("--stats", o.stats, "print counts and times as JSON on stderr");
  app.add_flag("--no-history", o.no_history, "leave out which tool made the file");
}

std::vector<std::int64_t> order_of(const std::string& list) {
  std::vector<std::int64_t> order;
  if (list.empty()) return order;
  for (const kv::Range& range : kv::parse_ranges(list, "--order")) {
    if (range.last < 0) kv::fail_usage("--order '{}': give numbers, for example 2,0,1", list);
    for (std::int64_t i = range.first; i < range.last; ++i) order.push_back(i);
  }
  return order;
}

kv::PieceOptions piece_options(const Options& o, const kv::Tokenizer& tokenizer) {
  kv::PieceOptions options{
      .prefix = o.prefix, .paths = o.files, .order = order_of(o.order), .keep_bos = o.keep_bos};
  const std::string suffix =
      o.suffix_file.empty() ? o.suffix : kv::read_text(kv::Input::open(o.suffix_file)).text;
  options.separator = tokenizer.encode(o.separator, o.special);
  options.suffix = tokenizer.encode(suffix, o.special);
  return options;
}

kv::FuseOptions fuse_options(const Options& o) {
  kv::FuseOptions options;
  options.selection = kv::parse_selection(o.select);
  options.amount = kv::parse_amount(o.amount);
  if (!o.gradual.empty()) {
    if (options.selection != kv::Selection::kHkvd) kv::fail_usage("--gradual: only with hkvd");
    options.gradual = kv::parse_amounts(o.gradual);
  }
  options.check_layer = o.check_layer;
  options.measure = kv::parse_measure(o.measure);
  options.seed = o.seed;
  return options;
}

ordered_json report_of(const kv::Layout& layout, const kv::FuseReport& fused) {
  std::int64_t exact = 0;
  for (const kv::Stretch& stretch : layout.exact) exact += stretch.count;
  return {{"tokens", layout.size()},
          {"exact", exact},
          {"reused", layout.size() - exact - std::ssize(layout.fresh)},
          {"fresh", layout.fresh.size()},
          {"recomputed", fused.chosen.size()},
          {"prefix_repeats", layout.prefix_repeats},
          {"bos_dropped", layout.bos_dropped},
          {"token_layers", fused.row_layers},
          {"key_value_token_layers", fused.key_value_rows},
          {"flops", fused.flops}};
}

int program_body(const Options& o, const kv::Invocation& call) {
  const kv::Stopwatch since;
  kv::FuseOptions options = fuse_options(o);
  kv::Output output = kv::open_output(o.output);
  kv::ModelOptions model_options = o.model.parsed();
  model_options.weights_later = true;
  const kv::Session session = kv::Session::open(o.model.model, model_options);
  const kv::DType dtype = o.dtype.empty() ? session.model->compute() : kv::parse_dtype(o.dtype);
  kv::Pieces pieces(session, piece_options(o, *session.tokenizer));
  const kv::Layout& layout = pieces.layout();
  kv::KvCache cache =
      session.model->make_cache({.capacity = layout.size(), .keep_unrotated_keys = true, .layers_on_demand = true});
  cache.extend(0, layout.size());
  kv::LayerLoad load(pieces.load_parts(), cache,
                     {.threads = std::max(1, session.model->threads() - 1), .ahead = 1, .open_layers = true});
  session.model->load_weights();  // the first layers are read meanwhile
  const double model_s = since.seconds();

  kv::Writer writer(output);
  std::vector<kv::HistoryEntry> history;
  if (!o.no_history) history = {{call.tool, call.version, call.arguments}};
  kv::FusedMember member(session, layout, cache, dtype, std::move(history), writer);
  options.on_layer = [&](std::int64_t layer) {
    member.write_layer(layer);
    cache.close_layer(layer);
  };
  const kv::FuseReport fused = kv::fuse(
      *session.model, layout, cache, [&](std::int64_t layer) { load.wait(layer); }, options);
  member.end();
  output.commit();
  if (o.stats) {
    ordered_json report = report_of(layout, fused);
    report.update({{"model_load_s", model_s},
                   {"load_s", load.load_s()},
                   {"wait_s", fused.wait_s},
                   {"compute_s", fused.compute_s},
                   {"total_s", since.seconds()},
                   {"layer_peak", load.layer_peak()},
                   {"read_bytes", load.read_bytes()},
                   {"compute", kv::dtype_name(session.model->compute())},
                   {"device", session.model->device()}});
    fmt::print(stderr, "{}\n", report.dump());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {
      "kvblend", "fuse KV caches of texts that were prefilled alone",
      "  kvblend -m smollm2 a.kv b.kv c.kv | kvgen -m smollm2 'Compare the three.'\n"
      "  kvblend -m smollm2 -r 30% --suffix 'Who is right?' <chunks.kv | kvgen -m smollm2 -p ''\n"
      "  kvblend -m smollm2 --select first --prefix system.kv a.kv b.kv -o fused.kv\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
