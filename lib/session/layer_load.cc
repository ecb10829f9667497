#include "kv/session/layer_load.hh"

#include "kv/codec/codec.hh"
#include "kv/model/parallel.hh"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

namespace kv {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

// What is read next is under `reading`; what the threads tell each other is under `telling`.
struct LayerLoad::State {
  struct Held {
    const LoadPart* part = nullptr;
    Tile tile;
  };

  std::vector<LoadPart> parts;
  KvCache& cache;
  LayerLoadOptions options;
  Clock::time_point began = Clock::now();

  mutable std::mutex reading;
  std::condition_variable allowed;
  bool ended = false;          // nothing more is read
  std::int64_t layer = 0;      // being read
  std::size_t part = 0;        // of which
  std::int64_t rows_read = 0;  // of that layer of that part, keys and values together
  std::int64_t layer_limit = 0;
  std::uint64_t read_bytes = 0;
  std::int64_t waited_for = 0, peak = 0, opened = 0;
  std::vector<Clock::time_point> layer_began;

  mutable std::mutex telling;
  std::condition_variable told;
  std::vector<std::int64_t> rows_left;  // by layer, of keys and values together
  std::vector<double> layer_s;
  bool read_whole = false;   // to the ends of the streams, which are as they should be
  std::exception_ptr error;  // the first
  double load_s = 0;

  std::vector<std::jthread> threads;  // last: joined before the rest goes

  State(std::vector<LoadPart> given, KvCache& into, LayerLoadOptions chosen)
      : parts(std::move(given)), cache(into), options(std::move(chosen)) {
    std::int64_t rows = 0;
    for (const LoadPart& each : parts) rows += 2 * each.meta.token_count;
    const auto layers = static_cast<std::size_t>(cache.layer_count());
    rows_left.assign(layers, rows);
    layer_s.resize(layers);
    layer_began.assign(layers, began);
    allow(0);
  }
  ~State() { stop(); }

  void stop() {
    {
      const std::lock_guard lock(reading);
      ended = true;
    }
    allowed.notify_all();
  }

  void allow(std::int64_t wanted) {
    const std::int64_t limit = options.ahead < 0 ? cache.layer_count() : wanted + options.ahead;
    {
      const std::lock_guard lock(reading);
      waited_for = std::max(waited_for, wanted);
      if (limit <= layer_limit) return;
      layer_limit = limit;
    }
    allowed.notify_all();
  }

  void start() {
    for (int i = 0; i < options.threads; ++i) {
      threads.emplace_back([this] {
        work_alone();
        Bytes coded, scratch;
        while (step(coded, scratch, true)) {
        }
      });
    }
  }

  // Reads and places a tile; false when there is none (without `patient`: none yet), or after an
  // error of any thread.
  bool step(Bytes& coded, Bytes& scratch, bool patient) {
    try {
      const std::optional<Held> held = next(coded, patient);
      if (!held) return false;
      place(*held, scratch);
      const std::lock_guard lock(telling);
      const std::size_t index = held->tile.header.layer;
      rows_left[index] -= held->tile.header.token_count;
      if (rows_left[index] <= 0) {
        layer_s[index] = seconds(Clock::now() - layer_began[index]);
        told.notify_all();
      }
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
  std::optional<Held> next(Bytes& coded, bool patient) {
    std::unique_lock lock(reading);
    while (!ended && layer < cache.layer_count()) {
      if (part == parts.size()) {
        part = 0;
        ++layer;
        if (layer < cache.layer_count())
          layer_began[static_cast<std::size_t>(layer)] = Clock::now();
      } else if (rows_read >= 2 * parts[part].meta.token_count) {
        ++part;
        rows_read = 0;
      } else if (layer > layer_limit) {
        if (!patient) return std::nullopt;
        allowed.wait(lock, [this] { return ended || layer <= layer_limit; });
        layer_began[static_cast<std::size_t>(layer)] = Clock::now();
      } else {
        if (options.open_layers && opened <= layer) cache.open_layer(opened++);
        ended = true;  // stays so where reading throws: what follows damage would be misread
        // Members of one file count together, so that only what this tile took is added.
        const std::uint64_t before = parts[part].source->read_bytes();
        const std::optional<Tile> tile = next_tile(parts[part], coded);
        read_bytes += parts[part].source->read_bytes() - before;
        // Readers see to it that a member's tensors are whole and in their order.
        if (!tile) throw std::logic_error("LayerLoad: a member without all layers");
        rows_read += tile->header.token_count;
        peak = std::max(peak, layer - waited_for + 1);
        keep_pace();
        ended = false;
        return Held{&parts[part], *tile};
      }
    }
    if (!ended) finish(coded);
    return std::nullopt;
  }

  std::optional<Tile> next_tile(const LoadPart& of, Bytes& coded) const {
    while (std::optional<Tile> tile = of.decoded->next_tile(coded)) {
      if (tile->header.kind != format::Kind::kE) return tile;
      if (options.on_hidden) options.on_hidden(of, *tile);
    }
    return std::nullopt;
  }

  void finish(Bytes& coded) {
    ended = true;
    for (const LoadPart& each : parts) {
      next_tile(each, coded);
      if (each.decoded->next_member()) {
        fail_input("{}: holds several members; {}", each.name, each.if_several);
      }
    }
    const std::lock_guard lock(telling);
    read_whole = true;
    load_s = seconds(Clock::now() - began);
    told.notify_all();
  }

  // As a device that gives no more would: the others wait behind this one.
  void keep_pace() const {
    if (options.bytes_per_s <= 0) return;
    const double due_s = static_cast<double>(read_bytes) / options.bytes_per_s;
    std::this_thread::sleep_until(
        began + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(due_s)));
  }

  void place(const Held& held, Bytes& scratch) {
    const LoadPart& of = *held.part;
    const TensorView rows = decoded_tile(of.meta, held.tile, of.name, scratch);
    const auto begin = static_cast<std::int64_t>(held.tile.header.token_begin);
    const std::int64_t skipped = std::clamp<std::int64_t>(of.skip - begin, 0, rows.shape[0]);
    if (skipped == rows.shape[0]) return;
    const bool keys = held.tile.header.kind == format::Kind::kK;
    cache.load(static_cast<std::int64_t>(held.tile.header.layer),
               keys ? CachePart::kKeys : CachePart::kValues,
               of.first_slot + begin + skipped - of.skip,
               rows.tokens(skipped, rows.shape[0] - skipped));
  }
};

LayerLoad::LayerLoad(std::vector<LoadPart> parts, KvCache& cache, LayerLoadOptions options)
    : state_(std::make_unique<State>(std::move(parts), cache, std::move(options))) {
  state_->start();
}
LayerLoad::~LayerLoad() = default;

void LayerLoad::wait(std::int64_t layer) {
  State& state = *state_;
  state.allow(layer);
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
    more = state.step(coded, scratch, false);
    lock.lock();
  }
  state.told.wait(lock, ready);
}

void LayerLoad::end_threads() { state_->threads.clear(); }

double LayerLoad::load_s() const {
  const std::lock_guard lock(state_->telling);
  return state_->load_s;
}

double LayerLoad::layer_load_s(std::int64_t layer) const {
  const std::lock_guard lock(state_->telling);
  return state_->layer_s[static_cast<std::size_t>(layer)];
}

std::int64_t LayerLoad::layer_peak() const {
  const std::lock_guard lock(state_->reading);
  return state_->peak;
}

std::uint64_t LayerLoad::read_bytes() const {
  const std::lock_guard lock(state_->reading);
  return state_->read_bytes;
}

}  // namespace kv
