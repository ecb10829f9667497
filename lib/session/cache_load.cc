#include "kv/session/cache_load.hh"

#include "kv/checkpoint/card.hh"
#include "kv/codec/codec.hh"
#include "kv/codec/decoded_source.hh"
#include "kv/model/parallel.hh"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

namespace kv {
namespace {

using Clock = std::chrono::steady_clock;

void require_usable(const Meta& meta, const std::string& name, const Session& session) {
  require_same_model(meta, name, session.identity);
  if (meta.layers != layers_of(session.checkpoint->config())) {
    fail_input("{}: holds {} of the model's {} layers; join the parts with kvcat --join", name,
               meta.layers.size(), session.checkpoint->config().layers.size());
  }
  if (meta.rope_applied) fail_input("{}: keys have RoPE applied; import it again without", name);
  if (meta.first_position != 0) {
    fail_input("{}: begins at position {}; join it with what stands before (kvcat --join)", name,
               meta.first_position);
  }
}

void require_hidden(const Meta& meta, const std::string& name,
                    const std::vector<std::uint32_t>& layers) {
  for (const std::uint32_t layer : layers) {
    if (!std::binary_search(meta.hidden_layers.begin(), meta.hidden_layers.end(), layer)) {
      fail_input("{}: keeps no E at layer {}; make it with --hidden", name, layer);
    }
  }
}

}  // namespace

// One thread at a time reads, under `reading`, while the others decode and place what they have
// read. What they tell each other is under `telling`.
struct CacheLoad::State {
  TileSource source;
  DecodedSource decoded;
  CacheFileOptions options;
  std::optional<CacheFile> file;
  std::string name;
  Clock::time_point began = Clock::now();

  std::mutex reading;
  bool ended = false;  // nothing more is read

  std::mutex telling;
  std::condition_variable told;
  std::vector<std::int64_t> rows_left;  // by layer, of keys and values together
  bool read_whole = false;              // to the end of the stream, which is as it should be
  std::exception_ptr error;             // the first
  double load_s = 0;

  std::vector<std::jthread> threads;  // last: joined before the rest goes

  State(Input input, const CacheFileOptions& given, int decoding_threads)
      : source(std::move(input), TileSource::Access::kSome, true),
        decoded(source, {}, {}, decoding_threads),
        options(given) {}
  ~State() { stop(); }

  void stop() {
    const std::lock_guard lock(reading);
    ended = true;
  }

  void start(int count) {
    for (int i = 0; i < count; ++i) {
      threads.emplace_back([this] {
        work_alone();
        Bytes coded, scratch;
        while (step(coded, scratch)) {
        }
      });
    }
  }

  // Reads and places a tile; false when there is none, or after an error of any thread.
  bool step(Bytes& coded, Bytes& scratch) {
    try {
      const std::optional<Tile> tile = next(coded);
      if (!tile) return false;
      place(*tile, scratch);
      const std::lock_guard lock(telling);
      std::int64_t& left = rows_left[tile->header.layer];
      left -= tile->header.token_count;
      if (left <= 0) told.notify_all();
      return true;
    } catch (...) {
      stop();
      const std::lock_guard lock(telling);
      if (!error) error = std::current_exception();
      told.notify_all();
      return false;
    }
  }

  // A tile of K or V; its bytes are kept in `coded`.
  std::optional<Tile> next(Bytes& coded) {
    const std::lock_guard lock(reading);
    if (ended) return std::nullopt;
    ended = true;  // stays so where reading throws: what follows damage would be misread
    while (std::optional<Tile> tile = decoded.next_tile(coded)) {
      if (tile->header.kind == format::Kind::kE) {
        keep_hidden(*tile);
        continue;
      }
      ended = false;
      return tile;
    }
    if (decoded.next_member()) {
      fail_input(
          "{}: holds several members; take one (kvcat --members), join the parts of one cache "
          "(kvcat --join), or fuse different ones (kvblend)",
          name);
    }
    const std::lock_guard telling_lock(telling);
    read_whole = true;
    load_s = std::chrono::duration<double>(Clock::now() - began).count();
    told.notify_all();
    return std::nullopt;
  }

  void place(const Tile& tile, Bytes& scratch) {
    const bool keys = tile.header.kind == format::Kind::kK;
    file->cache.load(static_cast<std::int64_t>(tile.header.layer),
                     keys ? CachePart::kKeys : CachePart::kValues,
                     static_cast<std::int64_t>(tile.header.token_begin),
                     decoded_tile(file->meta, tile, name, scratch));
  }

  void keep_hidden(const Tile& tile) {
    const std::uint32_t layer = tile.header.layer;
    if (std::ranges::find(options.hidden_layers, layer) == options.hidden_layers.end()) return;
    Bytes scratch;
    const TensorView rows = decoded_tile(file->meta, tile, name, scratch);
    Bytes& hidden = file->hidden[layer];
    hidden.insert(hidden.end(), rows.bytes.begin(), rows.bytes.end());
  }
};

CacheLoad::CacheLoad(std::unique_ptr<State> state) : state_(std::move(state)) {}
CacheLoad::CacheLoad(CacheLoad&&) noexcept = default;
CacheLoad& CacheLoad::operator=(CacheLoad&&) noexcept = default;
CacheLoad::~CacheLoad() = default;

std::optional<CacheLoad> CacheLoad::open(Input input, const Session& session,
                                         const CacheFileOptions& options) {
  const Model& model = *session.model;
  auto state = std::make_unique<State>(std::move(input), options, model.threads());
  std::optional<Meta> meta = state->decoded.next_member();
  if (!meta) return std::nullopt;
  state->name = state->source.name();
  require_usable(*meta, state->name, session);
  require_hidden(*meta, state->name, options.hidden_layers);
  KvCache cache = model.make_cache({.capacity = meta->token_count + options.extra_tokens,
                                    .keep_unrotated_keys = options.keep_unrotated_keys});
  cache.extend(0, meta->token_count);
  state->rows_left.assign(meta->layers.size(), 2 * meta->token_count);
  state->file.emplace(CacheFile{std::move(*meta), state->source.tokens(), std::move(cache), {}});
  state->start(model.threads() - 1);
  return CacheLoad(std::move(state));
}

CacheFile& CacheLoad::file() { return *state_->file; }

void CacheLoad::wait(std::int64_t layer) {
  State& state = *state_;
  const auto index = static_cast<std::size_t>(layer);
  const bool last = index + 1 == state.rows_left.size();
  const auto ready = [&] {
    if (state.error) std::rethrow_exception(state.error);
    return state.rows_left[index] <= 0 && (!last || state.read_whole);
  };
  Bytes coded, scratch;
  bool more = true;
  std::unique_lock lock(state.telling);
  while (more && !ready()) {
    lock.unlock();
    more = state.step(coded, scratch);
    lock.lock();
  }
  state.told.wait(lock, ready);
}

CacheFile CacheLoad::finish() {
  for (std::int64_t layer = 0; layer < file().cache.layer_count(); ++layer) wait(layer);
  state_->threads.clear();
  return *std::exchange(state_->file, std::nullopt);
}

double CacheLoad::load_s() const {
  const std::lock_guard lock(state_->telling);
  return state_->load_s;
}

std::optional<CacheFile> read_cache(Input input, const Session& session,
                                    const CacheFileOptions& options) {
  std::optional<CacheLoad> load = CacheLoad::open(std::move(input), session, options);
  if (!load) return std::nullopt;
  return load->finish();
}

}  // namespace kv
