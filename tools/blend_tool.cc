#include "blend_tool.hh"

#include "kv/base/rate.hh"
#include "kv/blend/cost.hh"
#include "kv/blend/fused_member.hh"
#include "kv/blend/report.hh"
#include "kv/documents/documents.hh"
#include "progress.hh"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace kv {

const ToolInfo kBlendInfo = {
    "kvblend", "fuse KV caches of texts that were prefilled alone",
    "  kvblend -m smollm2 a.kv b.kv c.kv | kvgen -m smollm2 'Compare the three.'\n"
    "  kvblend -m smollm2 -r 30% --suffix 'Who is right?' <chunks.kv | kvgen -m smollm2 -p ''\n"
    "  kvblend -m smollm2 --select first --prefix system.kv a.kv b.kv -o fused.kv\n"};

using nlohmann::ordered_json;

void declare_blend(CLI::App& app, BlendOptions& o) {
  declare_model(app, o.model);
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
  app.add_option("-r,--recompute", o.amount, "how many tokens: 15%, a number, auto (default: 15%)")
      ->type_name("AMOUNT");
  app.add_option("--floor", o.floor_percent, "auto: at least this many per cent (default: 15)")
      ->type_name("PERCENT")
      ->check(CLI::Range(0.0, 100.0));
  app.add_option("--throughput", o.throughput, "auto: what reading gives, 500M (default: measured)")
      ->type_name("RATE");
  app.add_option("--select", o.select,
                 "which: hkvd, first, qattn, random, none (default: qattn with a suffix)")
      ->type_name("RULE");
  app.add_option("--check-layer", o.check_layer, "hkvd: choose at this layer (default: 1)")
      ->type_name("LAYER")
      ->check(CLI::Range(0, 1 << 12));
  app.add_option("--measure", o.measure, "hkvd: by the deviation of v, k or kv (default: v)")
      ->type_name("PART");
  app.add_option("--gradual", o.gradual, "hkvd: amounts at the check layer and those behind it")
      ->type_name("AMOUNTS");
  app.add_option("--seed", o.seed, "of random (default: 0)")->type_name("SEED");
  app.add_flag("--plan", o.plan, "only tell what auto would do on which storage");
  app.add_flag("--verify", o.verify,
               "prefill the whole as well, and tell how far the two are apart");
  app.add_option("--next", o.next_tokens, "verify: compare the next N tokens (default: 32)")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--max-kld", o.max_kld, "verify: exit 1 when the mean KL divergence is larger")
      ->type_name("NATS")
      ->check(CLI::Range(0.0, 1e9));
  app.add_option("--min-top1", o.min_top1, "verify: exit 1 when fewer, 0 to 1, are the same")
      ->type_name("SHARE")
      ->check(CLI::Range(0.0, 1.0));
  app.add_flag("--json", o.json, "plan and verify: tell it as JSON");
  app.add_option("--read-rate", o.read_rate, "read no faster than this, to measure: 50M")
      ->type_name("RATE");
  declare_output(app, o.output);
  app.add_option("--dtype", o.dtype, "f32, f16, bf16, fp8_e4m3, fp8_e5m2 (default: bf16)")
      ->type_name("DTYPE");
  app.add_flag("--stats", o.stats, "print counts and times as JSON on stderr");
  app.add_flag("--no-history", o.no_history, "leave out which tool made the file");
}

namespace {

std::vector<std::int64_t> order_of(const std::string& list) {
  std::vector<std::int64_t> order;
  if (list.empty()) return order;
  for (const Range& range : parse_ranges(list, "--order")) {
    if (range.last < 0) fail_usage("--order '{}': give numbers, for example 2,0,1", list);
    for (std::int64_t i = range.first; i < range.last; ++i) order.push_back(i);
  }
  return order;
}

PieceOptions piece_options(const BlendOptions& o, const Invocation& call,
                           const Tokenizer& tokenizer) {
  PieceOptions options{
      .prefix = o.prefix, .paths = o.files, .order = order_of(o.order), .keep_bos = o.keep_bos};
  if (options.paths.empty()) options.paths.emplace_back();
  for (std::string& path : options.paths) path = input_path(path, call);
  const std::string suffix =
      o.suffix_file.empty() ? o.suffix : read_text(Input::open(o.suffix_file)).text;
  options.separator = tokenizer.encode(o.separator, o.special);
  options.suffix = tokenizer.encode(suffix, o.special);
  return options;
}

// Attention from the question leaves about half of hkvd's divergence (BENCHMARKS.md), but there
// must be a question, and no time to be told by reading.
std::string default_rule(const BlendOptions& o) {
  const bool asked = !o.suffix.empty() || !o.suffix_file.empty();
  const bool of_hkvd = o.amount == "auto" || !o.gradual.empty() || o.measure != "v" || o.plan;
  return asked && !of_hkvd ? "qattn" : "hkvd";
}

FuseOptions fuse_options(const BlendOptions& o) {
  FuseOptions options;
  options.selection = parse_selection(o.select.empty() ? default_rule(o) : o.select);
  options.amount = o.amount == "auto" ? Amount{o.floor_percent / 100} : parse_amount(o.amount);
  if (!o.gradual.empty()) {
    if (options.selection != Selection::kHkvd) fail_usage("--gradual: only with hkvd");
    options.gradual = parse_amounts(o.gradual);
  }
  options.check_layer = o.check_layer;
  options.measure = parse_measure(o.measure);
  options.seed = o.seed;
  return options;
}

// Layers are opened as they are read. `behind`: room for tokens to come.
KvCache cache_for(const Session& session, const Layout& layout, std::int64_t behind) {
  KvCache cache = session.model->make_cache(
      {.capacity = layout.size() + behind, .keep_unrotated_keys = true, .layers_on_demand = true});
  cache.extend(0, layout.size());
  return cache;
}

int tell_plan(const BlendOptions& o, const Session& session, const Layout& layout,
              const FuseOptions& options) {
  session.model->load_weights();
  FusionSize size{.layers = std::ssize(session.model->config().layers),
                  .tokens = layout.size(),
                  .reused = std::ssize(layout.candidates()),
                  .fresh = std::ssize(layout.fresh),
                  .bytes = layout.stored_bytes};
  if (options.selection == Selection::kHkvd) {
    size.check_layers = options.check_layer < 0 ? 1 : options.check_layer;
  }
  size.row_s = measured_row_s(*session.model, layout.ids);
  std::vector<StorageDevice> devices = storage_devices();
  if (!o.throughput.empty()) {
    devices.push_back({"given", parse_rate(o.throughput, "--throughput"), 0});
  }
  const Plan plan = plan_for(size, devices, o.floor_percent / 100);
  print(o.json ? plan_json(size, plan) + "\n" : plan_text(size, plan));
  return 0;
}

}  // namespace

int blend_body(const BlendOptions& o, const Invocation& call) {
  return blend(o, call, nullptr, nullptr);
}

int blend(const BlendOptions& o, const Invocation& call, const Session* loaded, FuseReport* told) {
  const Stopwatch since;
  FuseOptions options = fuse_options(o);
  const double read_rate = o.read_rate.empty() ? 0 : parse_rate(o.read_rate, "--read-rate");
  const double stated = o.throughput.empty() ? 0 : parse_rate(o.throughput, "--throughput");
  // What is told goes where the cache would, which is then written only to a file.
  std::optional<Output> output;
  if (!o.plan && (!o.verify || !o.output.path.empty())) output = open_output(o.output, call);
  std::optional<Session> own;
  if (!loaded) {
    ModelOptions model_options = o.model.parsed();
    model_options.weights_later = true;
    own.emplace(Session::open(o.model.model, model_options));
  }
  const Session& session = loaded ? *loaded : *own;
  const DType dtype = o.model.file_dtype(o.dtype);
  Pieces pieces(session, piece_options(o, call, *session.tokenizer));
  const Layout& layout = pieces.layout();
  if (o.plan) return tell_plan(o, session, layout, options);

  KvCache cache = cache_for(session, layout, o.verify ? o.next_tokens : 0);
  LayerLoad load(pieces.load_parts(), cache,
                 {.threads = std::max(1, session.model->threads() - 1),
                  .ahead = 1,
                  .bytes_per_s = read_rate,
                  .open_layers = true});
  if (own) session.model->load_weights();  // the first layers are read meanwhile
  const double model_s = since.seconds();
  std::int64_t ready = 0;
  const auto wait = [&](std::int64_t layer) {
    load.wait(layer);
    ready = layer;
  };
  if (o.amount == "auto") {
    const auto layer_bytes =
        static_cast<double>(layout.stored_bytes) / static_cast<double>(cache.layer_count());
    options.layer_load_s = [&load, &ready, stated, layer_bytes] {
      return stated > 0 ? layer_bytes / stated : load.layer_load_s(ready);
    };
  }
  std::optional<Writer> writer;
  std::optional<FusedMember> member;
  if (output) {
    std::vector<HistoryEntry> history;
    if (!o.no_history) history = {{call.tool, call.version, call.arguments}};
    writer.emplace(*output);
    member.emplace(session, layout, cache, dtype, std::move(history), *writer);
  }
  options.on_layer = [&](std::int64_t layer) {
    if (member) member->write_layer(layer);
    if (!o.verify) cache.close_layer(layer);
  };
  const FuseReport fused = fuse(*session.model, layout, cache, wait, options);
  if (member) member->end();
  if (told) *told = fused;
  const double total_s = since.seconds();
  bool good = true;
  if (o.verify) {
    const Comparison compared =
        compare_with_prefill(session, layout, cache, pieces.load_parts(), o.next_tokens);
    print(o.json ? comparison_json(layout, fused, compared) + "\n"
                 : comparison_text(layout, fused, compared));
    good = within({o.max_kld, o.min_top1}, compared);
    if (!good) note(call, "not within --max-kld and --min-top1");
  }
  if (output && good) output->commit();
  if (o.stats) {
    ordered_json report = ordered_json::parse(fusion_json(layout, fused));
    report.update({{"model_load_s", model_s},
                   {"load_s", load.load_s()},
                   {"total_s", total_s},
                   {"layer_peak", load.layer_peak()},
                   {"read_bytes", load.read_bytes()},
                   {"stored_bytes", layout.stored_bytes},
                   {"compute", dtype_name(session.model->compute())},
                   {"device", session.model->device()}});
    fmt::print(stderr, "{}\n", report.dump());
  }
  return good ? 0 : 1;
}

}  // namespace kv
