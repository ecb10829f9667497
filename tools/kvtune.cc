// kvtune: fine-tune a model: a LoRA adapter from prompts and answers.

#include "kv/base/new_folder.hh"
#include "kv/checkpoint/card.hh"
#include "kv/tune/tune.hh"
#include "model_options.hh"
#include "progress.hh"

#include <nlohmann/json.hpp>

#include <filesystem>

namespace {

using nlohmann::ordered_json;

struct Options {
  kv::ModelToolOptions model;
  std::string train, output, held_out, layers, log, state, dtype = "f32";
  std::vector<std::string> targets;
  kv::AdapterConfig adapter{.rank = 8, .alpha = 16};
  kv::TuneOptions tune;
  std::int64_t most_tokens = 0, eval_every = 0, state_every = 50, stop_after = 0;
  bool chat = false, force = false, json = false;
};

void declare_training(CLI::App& app, Options& o) {
  const auto count = CLI::Range(std::int64_t{1}, std::int64_t{1} << 40);
  const auto from_zero = CLI::Range(0.0, 1e9);
  app.add_option("--steps", o.tune.steps, "how many (default: 100)")->type_name("N")->check(count);
  app.add_option("--batch", o.tune.batch, "texts a step (default: 4)")
      ->type_name("N")
      ->check(count);
  app.add_option("--microbatch", o.tune.microbatch_tokens,
                 "tokens through the model at a time (default: 2048)")
      ->type_name("TOKENS")
      ->check(count);
  app.add_option("--lr", o.tune.learning_rate, "highest learning rate (default: 0.001)")
      ->type_name("RATE");
  app.add_option("--warmup", o.tune.warmup, "steps over which it rises (default: a tenth)")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40));
  app.add_option("--final", o.tune.final_share, "share of it at the end (default: 0)")
      ->type_name("SHARE")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--weight-decay", o.tune.weight_decay, "of AdamW (default: 0.01)")
      ->type_name("RATE")
      ->check(from_zero);
  app.add_option("--clip", o.tune.clip, "the gradient's largest norm; 0: any (default: 1)")
      ->type_name("NORM")
      ->check(from_zero);
  app.add_option("--seed", o.tune.seed, "of the order of texts and of A (default: 1)")
      ->type_name("SEED");
}

void declare(CLI::App& app, Options& o) {
  kv::declare_model(app, o.model);
  app.add_option("file", o.train, "JSON Lines of prompts and completions, or messages (default: -)")
      ->type_name("FILE");
  app.add_option("-o,--output", o.output, "write the adapter to the folder DIR")
      ->type_name("DIR")
      ->required();
  app.add_flag("-f,--force", o.force, "overwrite it");
  app.add_option("--rank", o.adapter.rank, "of A and B (default: 8)")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 12));
  app.add_option("--alpha", o.adapter.alpha, "B A counts alpha / rank (default: 16)")
      ->type_name("ALPHA");
  app.add_option("--targets", o.targets, "projections: q_proj,v_proj (default: all seven)")
      ->type_name("NAMES")
      ->delimiter(',');
  app.add_option("--layers", o.layers, "only these: 15:30 (default: all)")->type_name("RANGES");
  declare_training(app, o);
  app.add_flag("--chat", o.chat, "wrap prompts in the model's chat template");
  app.add_option("--max-tokens", o.most_tokens, "refuse longer texts (default: the context)")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--validation", o.held_out, "tell the loss of these prompts, before and after")
      ->type_name("FILE");
  app.add_option("--eval-every", o.eval_every, "and every N steps")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 30));
  app.add_option("--state", o.state, "keep the run in FILE, and go on from it when it is there")
      ->type_name("FILE");
  app.add_option("--state-every", o.state_every, "every N steps (default: 50)")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 30));
  app.add_option("--stop-after", o.stop_after, "end this run after step N; needs --state")
      ->type_name("N")
      ->needs("--state")
      ->check(CLI::Range(1, 1 << 30));
  app.add_option("--log", o.log, "a JSON line a step to FILE")->type_name("FILE");
  app.add_option("--dtype", o.dtype, "of the adapter: f32, f16 or bf16 (default: f32)")
      ->type_name("DTYPE");
  app.add_flag("--json", o.json, "tell the result as JSON");
}

std::vector<std::int64_t> layers_of(const std::string& ranges, std::int64_t count) {
  std::vector<std::int64_t> layers;
  if (ranges.empty()) return layers;
  for (const kv::Range& range : kv::parse_ranges(ranges, "--layers")) {
    const std::int64_t last = range.last < 0 ? count : range.last;
    for (std::int64_t i = range.first; i < last; ++i) layers.push_back(i);
  }
  std::ranges::sort(layers);
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  return layers;
}

void save(const std::string& path, const kv::Bytes& bytes) {
  kv::Output output = kv::Output::create(path, true);
  output.write(bytes);
  output.commit();
}

// Everything that a run tells: the log, the line on the terminal, the result.
class Teller {
 public:
  Teller(const Options& o, const kv::Invocation& call)
      : o_(o), call_(call), progress_(call.tool, "steps", call.quiet) {
    if (!o.log.empty()) log_ = kv::Output::create(o.log, o.force);
  }

  void step(const kv::TuneStep& step) {
    tokens_ += step.tokens;
    log({{"step", step.step},
         {"loss", step.loss},
         {"lr", step.rate},
         {"norm", step.norm},
         {"targets", step.targets},
         {"tokens", step.tokens},
         {"tokens_per_s", static_cast<double>(tokens_) / watch_.seconds()}});
    progress_.set_label(fmt::format("{}: loss {:.3f}", call_.tool, step.loss));
    progress_.set_share(static_cast<double>(step.step) / static_cast<double>(o_.tune.steps));
    progress_.add(1);
    last_ = step;
  }
  void held_out(std::int64_t step, double loss) {
    log({{"step", step}, {"held_out_loss", loss}});
    if (held_out_.empty()) held_out_.push_back(loss);
    held_out_.resize(1);
    held_out_.push_back(loss);
  }
  void result(const kv::LoraModel& model, bool whole) {
    progress_.hide();
    if (log_) log_->commit();
    ordered_json report = {
        {"steps", last_.step}, {"of", o_.tune.steps}, {"parameters", model.parameters()},
        {"loss", last_.loss},  {"tokens", tokens_},   {"seconds", watch_.seconds()}};
    if (!held_out_.empty()) {
      report["held_out_loss_before"] = held_out_.front();
      report["held_out_loss"] = held_out_.back();
    }
    if (o_.json) {
      kv::print(report.dump() + "\n");
      return;
    }
    std::string text =
        fmt::format("step {} of {}: loss {:.4f}", last_.step, o_.tune.steps, last_.loss);
    if (!held_out_.empty()) {
      text +=
          fmt::format(", held-out {:.4f} (before: {:.4f})", held_out_.back(), held_out_.front());
    }
    text += fmt::format("; {} parameters, {} tokens in {:.0f} s", model.parameters(), tokens_,
                        watch_.seconds());
    kv::note(call_, whole ? text : text + "; go on with the same command");
  }

 private:
  void log(const ordered_json& line) {
    if (log_) log_->write(kv::as_bytes(line.dump() + "\n"));
  }

  const Options& o_;
  const kv::Invocation& call_;
  kv::Progress progress_;
  kv::Stopwatch watch_;
  std::optional<kv::Output> log_;
  std::int64_t tokens_ = 0;
  kv::TuneStep last_;
  std::vector<double> held_out_;  // the first and the last
};

int program_body(const Options& o, const kv::Invocation& call) {
  // Before an hour's work.
  const kv::DType dtype = kv::parse_dtype(o.dtype);
  kv::require_adapter_dtype(dtype);
  kv::NewFolder folder(o.output, o.force);
  const auto checkpoint = kv::Checkpoint::open(o.model.model);
  const kv::ModelConfig& config = checkpoint->config();
  const auto tokenizer = kv::Tokenizer::open(checkpoint->tokenizer_path());
  kv::TrainingOptions reading{.chat = o.chat,
                              .most_tokens = o.most_tokens > 0 ? o.most_tokens : config.context,
                              .vocab = config.vocab};
  if (config.eos_ids.empty()) kv::fail_usage("{}: no end of text to learn", checkpoint->path());
  reading.eos = config.eos_ids.front();
  const auto texts_of = [&](const std::string& path) {
    return kv::training_texts(kv::read_prompts(kv::Input::open(path)), *tokenizer, reading);
  };
  const std::vector<kv::TrainingText> texts = texts_of(o.train);
  std::vector<kv::TrainingText> held_out;
  if (!o.held_out.empty()) held_out = texts_of(o.held_out);

  kv::AdapterConfig adapter = o.adapter;
  adapter.targets = o.targets;
  adapter.layers = layers_of(o.layers, std::ssize(config.layers));
  kv::LoraModel model(*checkpoint, o.model.parsed(), adapter, o.tune.seed);
  kv::Tuner tuner(model, texts, o.tune);
  const std::string base = checkpoint->fingerprint();
  if (!o.state.empty() && std::filesystem::exists(o.state)) tuner.restore(o.state, base);
  Teller teller(o, call);
  const auto judge = [&] {
    if (held_out.empty()) return;
    teller.held_out(tuner.done(), kv::mean_loss(model, held_out, o.tune.microbatch_tokens));
  };
  judge();
  const std::int64_t last = o.stop_after > 0 ? std::min(o.stop_after, o.tune.steps) : o.tune.steps;
  while (tuner.done() < last) {
    const kv::TuneStep step = tuner.step();
    teller.step(step);
    const bool ends = step.step == last;
    if (!o.state.empty() && (ends || step.step % o.state_every == 0)) {
      save(o.state, tuner.state(base));
    }
    if (ends || (o.eval_every > 0 && step.step % o.eval_every == 0)) judge();
  }
  const bool whole = tuner.done() == o.tune.steps;
  if (whole) {
    const kv::AdapterFiles files = kv::adapter_files(model, base, dtype);
    folder.write("adapter_config.json", kv::as_bytes(files.config_json));
    folder.write("adapter_model.safetensors", files.tensors);
    folder.commit();
  }
  teller.result(model, whole);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {
      "kvtune", "fine-tune a model: a LoRA adapter from prompts and answers",
      "  kvtune -m smollm2 --steps 60 -o short train.jsonl\n"
      "  kvtune -m smollm2 --layers 15:30 --validation test.jsonl --state run.state -o short "
      "train.jsonl\n"
      "  kvgen -m smollm2+short report.kv 'Question: who signed it? Answer:'\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
