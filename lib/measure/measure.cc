#include "kv/measure/measure.hh"

#include "kv/base/error.hh"
#include "kv/base/hash.hh"
#include "kv/blend/cost.hh"
#include "kv/eval/answers.hh"
#include "kv/eval/divergence.hh"
#include "kv/measure/continuation.hh"
#include "kv/measure/recipe_run.hh"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <numeric>

namespace kv {
namespace {

using Clock = std::chrono::steady_clock;
using Ids = std::vector<std::int32_t>;

double seconds_since(Clock::time_point began) {
  return std::chrono::duration<double>(Clock::now() - began).count();
}

std::string formatted(const std::string& format, const std::string& question) {
  const std::size_t at = format.find("{}");
  if (at == std::string::npos) fail_usage("--question '{}': has no {{}}", format);
  return format.substr(0, at) + question + format.substr(at + 2);
}

PrefillOptions prefill_options(const MeasureOptions& options) {
  PrefillOptions prefill{.parse_special = options.parse_special, .dtype = options.dtype};
  prefill.importance = options.importance;
  return prefill;
}

}  // namespace

// What recipes are held against.
struct Measurer::Full {
  Result result;
  Ids said;             // what comes next
  Reference reference;  // logits along it
  Ids answer;           // the likeliest of those that are right; may be empty
};

Measurer::Measurer(const Session& session, MeasureOptions options)
    : session_(session),
      options_(std::move(options)),
      prefiller_(session, prefill_options(options_)) {
  static_cast<void>(formatted(options_.question_format, ""));
  Fingerprint print;
  print.add_text(session_.identity.fingerprint);
  print.add_text(dtype_name(session_.model->compute()));
  print.add_text(dtype_name(options_.dtype.value_or(session_.model->compute())));
  print.add_text(options_.question_format);
  print.add_text(fmt::format("{} {} {} {}", options_.parse_special, options_.whole,
                             options_.importance, options_.next_tokens));
  setup_ = print.hex().substr(0, 16);
}

std::vector<Document> Measurer::documents_of(const EvalPrompt& prompt) const {
  std::vector<Document> documents;
  for (const std::string& chunk : prompt.chunks) {
    if (documents.empty() || !options_.whole) {
      documents.push_back({.id = fmt::format("{}#{}", prompt.id, documents.size()),
                           .text = chunk,
                           .place = prompt.place});
    } else {
      documents.back().text += chunk;
    }
  }
  return documents;
}

PreparedPrompt Measurer::prepare(const EvalPrompt& prompt) const {
  const Tokenizer& tokenizer = *session_.tokenizer;
  PreparedPrompt prepared{.prompt = prompt};
  for (const Document& document : documents_of(prompt)) {
    for (const Ids& chunk : prefiller_.chunks(document)) {
      const bool again =
          !prepared.ids.empty() && tokenizer.adds_bos() && chunk.front() == tokenizer.bos();
      prepared.ids.insert(prepared.ids.end(), chunk.begin() + (again ? 1 : 0), chunk.end());
    }
  }
  prepared.question = formatted(options_.question_format, prompt.question);
  const Ids question = tokenizer.encode(prepared.question, options_.parse_special);
  prepared.ids.insert(prepared.ids.end(), question.begin(), question.end());
  // A word behind a word, or the first of a line.
  const bool begins = prepared.question.empty() || prepared.question.back() == '\n' ||
                      prepared.question.back() == ' ';
  for (const std::string& answer : prompt.answers) {
    const Ids ids = tokenizer.encode(begins ? answer : " " + answer);
    if (!ids.empty()) prepared.answers.push_back(ids);
  }
  const std::int64_t total = std::ssize(prepared.ids) + room(prepared);
  const std::int64_t context = session_.model->config().context;
  if (total > context) {
    fail_input("{}: {} tokens and {} behind them, over the model's context of {}", prompt.place,
               prepared.ids.size(), room(prepared), context);
  }
  Fingerprint print;
  print.add_text(setup_);
  print.add_text(prompt.id);
  print.add(std::as_bytes(std::span(prepared.ids)));
  for (const std::string& answer : prompt.answers) print.add_text(answer);
  for (const std::string& chunk : prompt.chunks) print.add_text(chunk);
  prepared.fingerprint = print.hex().substr(0, 16);
  return prepared;
}

std::int64_t Measurer::room(const PreparedPrompt& prompt) const {
  std::int64_t most = options_.next_tokens;
  for (const Ids& answer : prompt.answers) most = std::max(most, std::ssize(answer));
  return most;
}

double Measurer::forward_flops(std::int64_t first, std::int64_t count) const {
  std::vector<std::int64_t> slots(static_cast<std::size_t>(count));
  std::iota(slots.begin(), slots.end(), first);
  double sum = 0;
  const ModelConfig& config = session_.model->config();
  for (std::int64_t layer = 0; layer < std::ssize(config.layers); ++layer) {
    sum += layer_flops(config, layer, slots);
  }
  return sum;
}

Result Measurer::result_of(const std::string& recipe, const PreparedPrompt& prompt,
                           std::span<const std::int32_t> said) const {
  Result result{.setup = setup_,
                .prompt = prompt.fingerprint,
                .id = prompt.prompt.id,
                .recipe = recipe,
                .tokens = std::ssize(prompt.ids)};
  result.answer = first_line(session_.tokenizer->decode(said, true));
  if (!prompt.prompt.answers.empty()) {
    const AnswerScore score = score_answer(result.answer, prompt.prompt.answers);
    result.f1 = score.f1;
    result.exact = score.exact ? 1 : 0;
  }
  return result;
}

Measurer::Full Measurer::run_full(const PreparedPrompt& prompt) const {
  const std::int64_t vocab = session_.model->config().vocab;
  KvCache cache = session_.model->make_cache({.capacity = std::ssize(prompt.ids) + room(prompt)});
  const Clock::time_point began = Clock::now();
  Continuation full(session_, cache, prompt.ids, {});
  const double ttft_s = seconds_since(began);
  Ids said = full.says(options_.next_tokens);
  Result result = result_of("", prompt, said);
  Ids likeliest;
  for (const Ids& answer : prompt.answers) {
    const double nll = full.nll(answer);
    if (result.nll && nll >= *result.nll) continue;
    result.nll = nll;
    likeliest = answer;
  }
  result.ttft_s = ttft_s;
  result.kld.assign(said.size(), 0);
  result.same_top = std::ssize(said);
  result.computed = static_cast<double>(prompt.ids.size());
  result.flops = forward_flops(0, std::ssize(prompt.ids));
  result.in_process = true;
  Reference reference(full.along(said), vocab, {});
  return {std::move(result), std::move(said), std::move(reference), std::move(likeliest)};
}

void Measurer::keep(const RecipeRun& run, const PreparedPrompt& prompt,
                    const std::string& recipe) const {
  namespace fs = std::filesystem;
  fs::create_directories(options_.keep);
  std::string name = recipe.substr(0, 60);
  for (char& c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!plain && c != '-' && c != '.') c = '_';
  }
  Fingerprint print;
  print.add_text(recipe);
  const std::string path =
      fmt::format("{}/{}.{}.{}.kv", options_.keep, file_name_of(prompt.prompt.id), name,
                  print.hex().substr(0, 4));
  Output output = Output::create(path, true);
  Input input = Input::open(run.result.path());
  if (run.result.size_bytes() > 0) output.write(input.map().bytes());
  output.commit();
}

Result Measurer::run_recipe_on(const std::string& recipe, const PreparedPrompt& prompt,
                               const MemoryFile& chunks, const Full& full) const {
  Stages stages = options_.make_stages(
      recipe, {{"KVEVAL_QUESTION", prompt.question}, {"KVEVAL_ID", prompt.prompt.id}});
  const RecipeRun run = run_recipe(stages, chunks);
  if (!options_.keep.empty()) keep(run, prompt, recipe);
  const Clock::time_point began = Clock::now();
  Placed placed(session_, run.result.path(), prompt.ids, room(prompt));
  const std::int64_t held = std::min(placed.cache().size(), std::ssize(prompt.ids) - 1);
  Continuation own(session_, placed.cache(), prompt.ids,
                   [&](std::int64_t layer) { placed.wait(layer); });
  const double said_s = seconds_since(began);
  const std::vector<float> rows = own.along(full.said);
  // Without answers to hold it against nobody asks what is said.
  const Ids said = prompt.prompt.answers.empty()
                       ? Ids{}
                       : own.says_beside(full.said, rows, options_.next_tokens);
  Result result = result_of(recipe, prompt, said);
  for (const TokenMetrics& token : full.reference.compare(rows)) {
    if (!std::isfinite(token.kld))
      fail_input("behind this cache the model's logits are no numbers");
    result.kld.push_back(std::max(0.0, token.kld));
    result.same_top += token.same_top ? 1 : 0;
  }
  if (!full.answer.empty()) result.nll = own.nll(full.answer);
  result.bytes = run.bytes;
  result.chunk_bytes = chunks.size_bytes();
  result.before_s = run.before_s;
  result.ttft_s = run.after_s + said_s;
  result.in_process = run.in_process;
  if (run.work) {
    const auto layers = static_cast<double>(session_.model->config().layers.size());
    result.computed =
        static_cast<double>(run.work->row_layers) / layers + static_cast<double>(own.rows_run());
    result.flops = run.work->flops + forward_flops(held, own.rows_run());
  }
  return result;
}

void Measurer::run(const PreparedPrompt& prompt, bool full_too,
                   const std::vector<std::string>& recipes,
                   const std::function<void(const Result&)>& on_result) {
  const MemoryFile chunks("chunks");
  Output output = chunks.output();
  Writer writer(output);
  for (const Document& document : documents_of(prompt.prompt)) {
    prefiller_.write(document, writer, [](std::int64_t) {});
  }
  output.commit();
  const Full full = run_full(prompt);
  if (full_too) on_result(full.result);
  for (const std::string& recipe : recipes) {
    try {
      on_result(run_recipe_on(recipe, prompt, chunks, full));
    } catch (const Error& error) {
      fail(error.kind(), "'{}' on prompt '{}': {}", recipe, prompt.prompt.id, error.what());
    }
  }
}

}  // namespace kv
