#include "kv/generate/generate.hh"

#include <algorithm>
#include <chrono>

namespace kv {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

void require_room(const Session& session, const KvCache& cache, std::size_t tokens) {
  const auto total = cache.size() + static_cast<std::int64_t>(tokens);
  if (total == 0) fail_input("nothing to go on from: the prompt is empty and there is no cache");
  if (total > session.model->config().context) {
    fail_input("cache and prompt have {} tokens, over the model's context of {}", total,
               session.model->config().context);
  }
}

// Logits behind the last token held. A cache keeps keys and values, not the last hidden state, so
// without a prompt its last token is run once more.
std::vector<float> first_logits(const Session& session, const Start& start) {
  if (!start.prompt.empty()) {
    return session.model->forward(start.prompt, start.cache, {.before_layer = start.wait}).logits;
  }
  if (start.wait) {
    for (std::int64_t layer = 0; layer < start.cache.layer_count(); ++layer) start.wait(layer);
  }
  start.cache.truncate(start.cache.size() - 1);
  return session.model->forward(std::span(&start.last_id, 1), start.cache).logits;
}

}  // namespace

GenerateStats generate(const Session& session, const Start& start, const GenerateOptions& options) {
  KvCache& cache = start.cache;
  require_room(session, cache, start.prompt.size());
  const Clock::time_point began = Clock::now();
  GenerateStats stats;
  stats.prompt_tokens = static_cast<std::int64_t>(start.prompt.size());
  stats.stopped_by = "length";
  if (options.max_tokens <= 0) return stats;

  std::vector<float> logits = first_logits(session, start);
  stats.prefill_s = seconds(Clock::now() - began);
  Sampler sampler(options.sampler);
  TextStream stream(*session.tokenizer);
  StopText stop(options.stops);
  const auto& eos = session.checkpoint->config().eos_ids;
  Clock::time_point first = began;
  while (true) {
    if (options.on_logits) options.on_logits(logits);
    const std::int32_t id = sampler.pick(logits);
    const Clock::time_point now = Clock::now();
    if (stats.generated == 0) {
      first = now;
      stats.first_token_s = seconds(now - began);
    }
    if (!options.ignore_eos && std::find(eos.begin(), eos.end(), id) != eos.end()) {
      stats.stopped_by = "eos";
      break;
    }
    ++stats.generated;
    std::string text = stop.push(stream.push(id));
    const bool last = stop.stopped() || stats.generated == options.max_tokens ||
                      cache.size() >= session.model->config().context;
    if (last && !stop.stopped()) text += stop.push(stream.finish());
    if (last && !stop.stopped()) text += stop.finish();
    if (options.on_token) {
      options.on_token(
          {std::chrono::duration_cast<std::chrono::nanoseconds>(now - began).count(), id, text});
    }
    if (stop.stopped()) stats.stopped_by = "stop";
    if (last && !stop.stopped() && stats.generated < options.max_tokens)
      stats.stopped_by = "context";
    if (last) break;
    logits = session.model->forward(std::span(&id, 1), cache).logits;
  }
  if (stats.stopped_by == std::string_view("eos") && options.on_token) {
    const std::string rest = stop.push(stream.finish()) + stop.finish();
    if (!rest.empty()) options.on_token({0, -1, rest});
  }
  const double rest_s = seconds(Clock::now() - first);
  if (stats.generated > 1 && rest_s > 0) {
    stats.tokens_per_s = static_cast<double>(stats.generated - 1) / rest_s;
  }
  return stats;
}

Score score(const Session& session, const Start& start, const std::vector<std::int32_t>& text,
            const std::function<void(std::span<const float>)>& on_logits) {
  require_room(session, start.cache, start.prompt.size() + text.size());
  Score result;
  std::size_t at = 0;
  const auto judge = [&](std::span<const float> row) {
    if (on_logits) on_logits(row);
    result.nll += negative_log_likelihood(row, text[at++]);
    ++result.tokens;
  };
  if (text.empty()) return result;
  judge(first_logits(session, start));
  // Blocks of rows, so that memory holds a block's logits and not all of them.
  constexpr std::size_t kRows = 256;
  const auto vocab = static_cast<std::size_t>(session.model->config().vocab);
  for (std::size_t begin = 0; begin + 1 < text.size(); begin += kRows) {
    const std::size_t count = std::min(kRows, text.size() - 1 - begin);
    const ForwardResult rows = session.model->forward(std::span(text).subspan(begin, count),
                                                      start.cache, {.logits = LogitRows::kAll});
    for (std::size_t i = 0; i < count; ++i) {
      judge(std::span(rows.logits).subspan(i * vocab, vocab));
    }
  }
  return result;
}

NpyWriter::NpyWriter(Output& output, std::int64_t columns) : output_(output), columns_(columns) {}

void NpyWriter::row(std::span<const float> values) {
  rows_.insert(rows_.end(), values.begin(), values.end());
}

void NpyWriter::finish() {
  const std::int64_t rows = static_cast<std::int64_t>(rows_.size()) / columns_;
  std::string header = fmt::format(
      "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, columns_);
  // Magic, version, length and header together fill a multiple of 64 bytes, ended by a newline.
  constexpr std::size_t kPrefixBytes = 10;
  header.append(63 - (kPrefixBytes + header.size()) % 64, ' ');
  header += '\n';
  ByteWriter prefix;
  prefix.put_bytes(as_bytes("\x93NUMPY"));
  prefix.put<std::uint8_t>(1);
  prefix.put<std::uint8_t>(0);
  prefix.put(static_cast<std::uint16_t>(header.size()));
  prefix.put_bytes(as_bytes(header));
  output_.write(prefix.bytes(), std::as_bytes(std::span(rows_)));
}

}  // namespace kv
