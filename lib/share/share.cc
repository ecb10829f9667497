#include "kv/share/share.hh"

#include "kv/checkpoint/card.hh"
#include "kv/model/parallel.hh"
#include "recompute.hh"
#include "share_state.hh"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <thread>

namespace kv {

void Share::State::open(Input input) {
  name = input.name();
  // Twice, where it is a file with an index: the system has one of the two in its cache.
  if (needs_hidden() && input.mappable()) {
    auto ahead = std::make_unique<TileSource>(Input::open(name), TileSource::Access::kSome, true);
    if (ahead->keeps_tiles()) hidden_source = std::move(ahead);
  }
  source = std::make_unique<TileSource>(std::move(input), TileSource::Access::kSome, true);
  decoded.emplace(*source, Range{}, Range{}, session.model->threads());
}

void Share::State::check(const Meta& meta) const {
  const LayerGroup& group = options.group;
  const std::int64_t layers = std::ssize(session.model->config().layers);
  if (group.first < 0 || group.end > layers || group.count() < 0) {
    fail_usage("layers {} to {}: the model has {}", group.first, group.end, layers);
  }
  if (options.plan) require_same_model(meta, name, options.plan->from);
  if (meta.layers != layers_of(session.checkpoint->config())) {
    fail_input("{}: its layers are not those of {}; only fine-tunes of one model can share", name,
               session.identity.name);
  }
  if (meta.model.tokenizer_fingerprint != session.identity.tokenizer_fingerprint &&
      !meta.model.tokenizer_fingerprint.empty()) {
    fail_input("{}: made with another tokenizer than {} has", name, session.identity.name);
  }
  if (meta.rope_applied) fail_input("{}: keys have RoPE applied; import it again without", name);
  if (meta.first_position != 0) {
    fail_input("{}: begins at position {}; join it with what stands before (kvcat --join)", name,
               meta.first_position);
  }
  if (!needs_hidden()) return;
  const auto first = static_cast<std::uint32_t>(group.first);
  if (!std::ranges::binary_search(meta.hidden_layers, first)) {
    fail_input(
        "{}: keeps no E at layer {}, from which layers {} to {} are recomputed; make it "
        "with kvprefill --hidden {}, or give --compute-hidden MODEL",
        name, first, first, group.end - 1, first);
  }
}

void Share::State::describe() {
  to = from;
  to.model = session.identity;
  to.hidden_layers.clear();
  to.hidden = 0;
  to.dtype = options.dtype.value_or(from.dtype);
  to.codec = "raw";
  to.quality_layers = 1;
  if (options.history.empty()) to.history.clear();
  to.history.insert(to.history.end(), options.history.begin(), options.history.end());
  if (to.dtype == DType::kI8) fail_usage("--dtype int8: a codec's business; see kvencode");
  nlohmann::json extra = nlohmann::json::parse(to.extra_json);
  extra["shared"] = {{"from", {{"fingerprint", from.model.fingerprint}, {"name", from.model.name}}},
                     {"recomputed", {options.group.first, options.group.end}}};
  to.extra_json = extra.dump();
}

Share::Share(Input input, const Session& session, ShareOptions options)
    : state_(std::make_unique<State>(session, std::move(options))) {
  State& state = *state_;
  state.open(std::move(input));
  std::optional<Meta> meta = state.decoded->next_member();
  if (!meta) fail_input("{}: empty, no cache", state.name);
  state.check(*meta);
  state.from = std::move(*meta);
  state.tokens = state.source->tokens();
  if (state.tokens.empty() && state.options.group.count() > 0 &&
      (state.options.group.first == 0 || state.options.hidden_from)) {
    fail_input("{}: keeps no token ids to compute from", state.name);
  }
  state.describe();
}

Share::~Share() = default;

const Meta& Share::meta() const { return state_->to; }

const LayerGroup& Share::group() const { return state_->options.group; }

at::Tensor Share::State::first_hidden() {
  const Model& model = *session.model;
  if (options.group.first == 0) return model.embed(tokens);
  if (options.hidden_from) {
    return hidden_at(*options.hidden_from->model, tokens, options.group.first);
  }
  std::unique_lock guard(lock);
  told.wait(guard, [&] { return hidden_there || error; });
  if (error) std::rethrow_exception(error);
  return model.hidden_from(hidden);
}

void Share::State::hand_over(std::int64_t layer, const KvCache& cache) {
  for (const format::Kind kind : {format::Kind::kK, format::Kind::kV}) {
    SharedRows rows{{.kind = kind,
                     .dtype = to.dtype,
                     .layer = static_cast<std::uint32_t>(layer),
                     .token_count = static_cast<std::uint32_t>(to.token_count)},
                    {}};
    rows.bytes.resize(static_cast<std::size_t>(to.token_count) *
                      to.shape_of(rows.header).row_bytes());
    cache.save(layer, kind == format::Kind::kK ? CachePart::kKeys : CachePart::kValues, 0,
               to.token_count, to.dtype, rows.bytes);
    const std::lock_guard guard(lock);
    computed.push_back(std::move(rows));
    told.notify_all();
    if (error) std::rethrow_exception(error);
  }
}

void Share::State::compute() {
  if (options.group.count() > 0) {
    at::Tensor rows = first_hidden();
    const double computing = since();
    recompute(*session.model, rows, options.group,
              [&](std::int64_t layer, const KvCache& cache) { hand_over(layer, cache); });
    report.compute_s = since() - computing;
  }
  const std::lock_guard guard(lock);
  all_computed = true;
  told.notify_all();
}

ShareReport Share::run(Writer& writer) {
  State& state = *state_;
  state.began = State::Clock::now();
  writer.begin_member(state.to, state.tokens, state.source->importance());
  std::jthread reader([&] {
    work_alone();
    try {
      state.read_and_write(writer);
    } catch (...) {
      const std::lock_guard guard(state.lock);
      state.error = std::current_exception();
      state.told.notify_all();
    }
  });
  try {
    state.compute();
  } catch (...) {
    {
      const std::lock_guard guard(state.lock);
      state.given_up = true;
      state.told.notify_all();
    }
    reader.join();
    throw;
  }
  reader.join();
  if (state.error) std::rethrow_exception(state.error);
  state.report.total_s = state.since();
  state.report.tokens = state.to.token_count;
  state.report.layers = std::ssize(state.to.layers);
  state.report.read_bytes = state.read_bytes;
  return state.report;
}

}  // namespace kv
