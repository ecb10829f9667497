// kvgen: answer a prompt from a KV cache.

#include "kv/documents/documents.hh"
#include "kv/generate/generate.hh"
#include "kv/session/cache_load.hh"
#include "model_options.hh"

#include <nlohmann/json.hpp>
#include <unistd.h>

#include <chrono>
#include <cstdio>

namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::ordered_json;

struct Options {
  kv::ModelToolOptions model;
  std::vector<std::string> words;
  std::string prompt, prompt_file, score, logits, trace;
  bool chat = false, no_cache = false, stats = false, force = false;
  kv::GenerateOptions generate;
};

void declare(CLI::App& app, Options& o) {
  kv::declare_model(app, o.model);
  app.add_option("words", o.words, "[CACHE] PROMPT; with -p only [CACHE]")
      ->type_name("TEXT")
      ->expected(0, 2);
  app.add_option("-p,--prompt", o.prompt, "the prompt")->type_name("TEXT");
  app.add_option("--prompt-file", o.prompt_file, "the prompt is in FILE")
      ->type_name("FILE")
      ->excludes("--prompt");
  app.add_flag("--chat", o.chat, "wrap the prompt in the model's chat template");
  app.add_flag("--no-cache", o.no_cache, "do not look for a cache on stdin");
  app.add_option("-n,--tokens", o.generate.max_tokens, "at most N tokens (default: 128)")
      ->type_name("N");
  app.add_option("--temperature", o.generate.sampler.temperature, "0: most likely (default)")
      ->type_name("T");
  app.add_option("--top-p", o.generate.sampler.top_p, "draw from this mass")->type_name("P");
  app.add_option("--top-k", o.generate.sampler.top_k, "draw from the K likeliest")->type_name("K");
  app.add_option("--seed", o.generate.sampler.seed, "of the draws (default: 0)")->type_name("SEED");
  app.add_option("--stop", o.generate.stops, "end before TEXT; may be repeated")
      ->type_name("TEXT")
      ->take_all()
      ->allow_extra_args(false);
  app.add_flag("--ignore-eos", o.generate.ignore_eos, "go on when the model ends its answer");
  app.add_option("--score", o.score, "print the NLL of the text in FILE instead")
      ->type_name("FILE");
  app.add_option("--logits", o.logits, "write logits as a NumPy array to FILE")->type_name("FILE");
  app.add_option("--trace", o.trace, "write a JSON line a token to FILE")->type_name("FILE");
  app.add_flag("--stats", o.stats, "print times as JSON on stderr");
  app.add_flag("-f,--force", o.force, "overwrite these files");
}

// Positional words are [CACHE] PROMPT, or only [CACHE] when the prompt is given by option.
struct Request {
  std::string cache;  // empty: look on stdin
  std::string prompt;
};
Request request_of(const Options& o) {
  std::vector<std::string> words = o.words;
  Request request{"", o.prompt};
  if (!o.prompt_file.empty()) {
    request.prompt = kv::read_text(kv::Input::open(o.prompt_file)).text;
  } else if (o.prompt.empty() && !words.empty()) {
    request.prompt = words.back();
    words.pop_back();
  }
  if (words.size() > 1) kv::fail_usage("'{}': one cache only", words[1]);
  if (!words.empty()) request.cache = words.front();
  return request;
}

void print_trace(kv::Output& trace, const kv::TokenEvent& event) {
  const ordered_json line = {{"t_ns", event.t_ns}, {"id", event.id}, {"text", event.text}};
  trace.write(
      kv::as_bytes(line.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n"));
}

int program_body(const Options& o, const kv::Invocation&) {
  const Clock::time_point began = Clock::now();
  const auto since = [&] { return std::chrono::duration<double>(Clock::now() - began).count(); };
  const Request request = request_of(o);
  std::optional<kv::Output> logits_file, trace_file;
  if (!o.logits.empty()) logits_file = kv::Output::create(o.logits, o.force);
  if (!o.trace.empty()) trace_file = kv::Output::create(o.trace, o.force);

  kv::ModelOptions model_options = o.model.parsed();
  model_options.with_head = model_options.weights_later = true;
  const kv::Session session = kv::Session::open(o.model.model, model_options);
  const auto prompt = [&](bool begins) {
    return kv::prompt_ids(*session.tokenizer, request.prompt, o.chat, begins);
  };
  std::vector<std::int32_t> behind = prompt(false);
  const std::int64_t context = session.model->config().context;
  // Behind a cache, room for what comes and no more: layers that lie close together take less
  // memory that was never used.
  const std::int64_t most = std::ssize(behind) + std::max<std::int64_t>(o.generate.max_tokens, 0);
  std::optional<kv::CacheLoad> load;
  const bool look = !request.cache.empty() || (!o.no_cache && !isatty(STDIN_FILENO));
  if (look)
    load =
        kv::CacheLoad::open(kv::Input::open(request.cache), session,
                            {.extra_tokens = o.score.empty() ? std::min(most, context) : context});
  session.model->load_weights();  // the cache is read meanwhile
  const double model_s = since();
  kv::KvCache empty = session.model->make_cache({.capacity = load ? 0 : context});
  const bool has_cache = load && !load->file().tokens.empty();
  kv::Start start{load ? load->file().cache : empty, has_cache ? load->file().tokens.back() : 0,
                  load ? std::move(behind) : prompt(true)};
  if (load) start.wait = [&](std::int64_t layer) { load->wait(layer); };
  const double ready_s = since();

  std::optional<kv::NpyWriter> logits;
  if (logits_file) logits.emplace(*logits_file, session.model->config().vocab);
  const auto on_logits = [&](std::span<const float> row) {
    if (logits) logits->row(row);
  };
  ordered_json report = {{"model_load_s", model_s},
                         {"cache_tokens", start.cache.size()},
                         {"prompt_tokens", start.prompt.size()}};
  if (!o.score.empty()) {
    const std::string text = kv::read_text(kv::Input::open(o.score)).text;
    const kv::Score score = kv::score(session, start, session.tokenizer->encode(text), on_logits);
    const double mean = score.tokens > 0 ? score.nll / static_cast<double>(score.tokens) : 0;
    kv::print(ordered_json{{"nll", score.nll}, {"tokens", score.tokens}, {"mean", mean}}.dump() +
              "\n");
  } else {
    kv::GenerateOptions options = o.generate;
    options.on_logits = on_logits;
    options.on_token = [&](const kv::TokenEvent& event) {
      if (trace_file) print_trace(*trace_file, event);
      kv::print(event.text);
      std::fflush(stdout);
    };
    const kv::GenerateStats stats = kv::generate(session, start, options);
    kv::print("\n");
    report.update({{"prefill_s", stats.prefill_s},
                   {"ttft_s", ready_s + stats.first_token_s},
                   {"generated", stats.generated},
                   {"tokens_per_s", stats.tokens_per_s},
                   {"stopped_by", stats.stopped_by}});
  }
  if (logits) logits->finish();
  if (logits_file) logits_file->commit();
  if (trace_file) trace_file->commit();
  report.update({{"cache_load_s", load ? load->load_s() : 0.0},
                 {"compute", kv::dtype_name(session.model->compute())},
                 {"device", session.model->device()}});
  if (o.stats) fmt::print(stderr, "{}\n", report.dump());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {"kvgen", "answer a prompt from a KV cache",
                             "  kvgen -m smollm2 report.kv 'Question: who signed it? Answer:'\n"
                             "  kvdecode report.kvz | kvgen -m smollm2 -p 'In one word:'\n"
                             "  kvgen -m smollm2 --chat --no-cache 'Say hello.'\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
