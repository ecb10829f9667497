// What the thread that reads and writes does: tiles in, in the order in which they can be had, and
// layers out in theirs.

#include "kv/codec/codec.hh"
#include "share_state.hh"

#include <thread>

namespace kv {

void Share::State::pace(std::uint64_t bytes) {
  read_bytes += bytes;
  if (options.bytes_per_s <= 0) return;
  const double due_s = static_cast<double>(read_bytes) / options.bytes_per_s;
  std::this_thread::sleep_until(
      began + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(due_s)));
}

SharedRows Share::State::rows_of(const Tile& tile) const {
  Bytes scratch;
  const TensorView view = decoded_tile(from, tile, name, scratch);
  SharedRows rows{tile.header, {}};
  rows.header.codec = format::kRaw;
  rows.header.dtype = to.dtype;
  rows.bytes.resize(view.bytes.size() / dtype_size_bytes(view.dtype) * dtype_size_bytes(to.dtype));
  convert(view.bytes, view.dtype, rows.bytes, to.dtype);
  return rows;
}

void Share::State::add_hidden(const Tile& tile) {
  Bytes scratch;
  const TensorView view = decoded_tile(from, tile, name, scratch);
  std::vector<float> rows(view.bytes.size() / dtype_size_bytes(view.dtype));
  convert(view.bytes, view.dtype, std::as_writable_bytes(std::span(rows)), DType::kF32);
  const std::lock_guard guard(lock);
  hidden.insert(hidden.end(), rows.begin(), rows.end());
  if (std::ssize(hidden) < from.token_count * session.model->config().hidden) return;
  hidden_there = true;
  report.hidden_s = since();
  told.notify_all();
}

void Share::State::read_hidden_first() {
  hidden_source->next_member();
  const auto first = static_cast<std::uint32_t>(options.group.first);
  while (const auto tile = hidden_source->next_tile([&](const format::TileHeader& header) {
    return header.kind == format::Kind::kE && header.layer == first;
  })) {
    pace(tile->data.size());
    add_hidden(*tile);
  }
}

void Share::State::write(const SharedRows& rows, Writer& writer) const {
  if (rows.header.token_count < to.token_count) {
    writer.write_tile(rows.header, rows.bytes);
    return;
  }
  TensorView view = to.shape_of(rows.header);
  view.bytes = rows.bytes;
  writer.write_raw(rows.header.kind, rows.header.layer, view);
}

void Share::State::write_computed(Writer& writer, bool wait) {
  std::unique_lock guard(lock);
  while (true) {
    if (wait) told.wait(guard, [&] { return !computed.empty() || all_computed || given_up; });
    if (computed.empty()) return;
    const SharedRows rows = std::move(computed.front());
    computed.pop_front();
    guard.unlock();
    write(rows, writer);
    guard.lock();
  }
}

void Share::State::take(const Tile& tile, Writer& writer, std::deque<SharedRows>& held) {
  const std::uint32_t layer = tile.header.layer;
  if (tile.header.kind == format::Kind::kE) {
    if (needs_hidden() && !hidden_source && layer == options.group.first) add_hidden(tile);
    return;
  }
  if (in_group(layer)) return;
  SharedRows rows = rows_of(tile);
  if (layer < options.group.first || options.group.count() == 0) {
    write(rows, writer);
    return;
  }
  held.push_back(std::move(rows));
  write_computed(writer, false);
  {
    const std::lock_guard guard(lock);
    if (!all_computed || !computed.empty()) return;
  }
  for (; !held.empty(); held.pop_front()) write(held.front(), writer);
}

void Share::State::read_stretch(DecodedSource& from_source, const TileSource& counted,
                                Writer& writer, std::deque<SharedRows>& held) {
  std::uint64_t before = counted.read_bytes();
  while (const std::optional<Tile> tile = from_source.next_tile()) {
    const std::uint64_t now = counted.read_bytes();
    pace(now - before);
    before = now;
    take(*tile, writer, held);
    const std::lock_guard guard(lock);
    if (given_up) return;
  }
}

void Share::State::read_and_write(Writer& writer) {
  if (hidden_source) read_hidden_first();
  std::deque<SharedRows> held;
  if (!seeks()) {
    read_stretch(*decoded, *source, writer, held);
  } else {
    for (const Range& layers : {Range{0, options.group.first}, Range{options.group.end, -1}}) {
      if (layers.first == layers.last) continue;
      TileSource part(Input::open(name), TileSource::Access::kSome, true);
      DecodedSource stretch(part, layers, Range{}, session.model->threads());
      stretch.next_member();
      read_stretch(stretch, part, writer, held);
    }
  }
  report.load_s = since();
  if (decoded->next_member()) {
    fail_input("{}: holds several members; take one (kvcat --members)", name);
  }
  write_computed(writer, true);
  {
    const std::lock_guard guard(lock);
    if (given_up) return;
  }
  for (const SharedRows& rows : held) write(rows, writer);
  writer.end_member();
}

}  // namespace kv
