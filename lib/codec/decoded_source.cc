#include "kv/codec/decoded_source.hh"

#include "clp_member.hh"
#include "ecsq.hh"
#include "ordered_pool.hh"

#include <deque>

namespace kv {

struct DecodedSource::State {
  TileSource& source;
  Range layers, tokens;
  int threads;
  Meta meta;
  std::optional<ClpMember> member;
  std::optional<OwnedTile> ahead;  // read, behind what was decoded
  std::deque<OwnedTile> ready;
  OwnedTile current;

  bool in_tokens(const format::TileHeader& tile) const {
    const auto begin = static_cast<std::int64_t>(tile.token_begin);
    return begin + tile.token_count > tokens.first && (tokens.last < 0 || begin < tokens.last);
  }
  bool wanted(const format::TileHeader& tile) const {
    return in_tokens(tile) && layers.contains(tile.layer);
  }
  // Wanted, or of a layer that may be needed to decode a later one.
  bool needed(const format::TileHeader& tile) const {
    return wanted(tile) || (in_tokens(tile) && tile.codec == format::kClp &&
                            (layers.last < 0 || tile.layer < layers.last));
  }

  std::optional<Tile> read() {
    return source.next_tile([this](const format::TileHeader& header) { return needed(header); });
  }
  static OwnedTile owned(const Tile& tile) {
    return {tile.header, Bytes(tile.data.begin(), tile.data.end()), tile.frame_offset};
  }

  // The rest of the layer that begins with `first`, decoded, and layers after it while they are
  // small.
  void decode_layers(OwnedTile first) {
    std::vector<OwnedTile> tiles;
    std::uint32_t layer = first.header.layer;
    std::size_t before = 0;  // tiles of the layers before this one
    tiles.push_back(std::move(first));
    while (const std::optional<Tile> tile = read()) {
      if (tile->header.layer != layer) {
        const std::size_t of_layer = tiles.size() - before;
        if (tiles.size() + of_layer > member->most_tiles_together()) {
          ahead = owned(*tile);
          break;
        }
        layer = tile->header.layer;
        before = tiles.size();
      }
      tiles.push_back(owned(*tile));
    }
    for (OwnedTile& tile : member->decode(std::move(tiles))) {
      if (wanted(tile.header)) ready.push_back(std::move(tile));
    }
  }

  // Whether others may refine it.
  bool refinable(const format::TileHeader& tile) const {
    return tile.codec == format::kEcsq && meta.quality_layers > 1;
  }

  // The rest of the tensor that begins with `first`, each tile with its refinements.
  void decode_refined(OwnedTile first) {
    const format::TileHeader tensor = first.header;
    std::vector<std::vector<OwnedTile>> groups;
    groups.emplace_back().push_back(std::move(first));
    while (const std::optional<Tile> tile = read()) {
      const format::TileHeader& header = tile->header;
      if (header.layer != tensor.layer || header.kind != tensor.kind ||
          (header.quality == 0 && !refinable(header))) {
        ahead = owned(*tile);
        break;
      }
      if (header.quality == 0) groups.emplace_back();
      groups.back().push_back(owned(*tile));
    }
    OrderedPool<OwnedTile> pool(threads, [&](OwnedTile raw) { ready.push_back(std::move(raw)); });
    for (const std::vector<OwnedTile>& group : groups) {
      pool.add([this, &group] { return merged(group); });
    }
    pool.finish();
  }

  OwnedTile merged(const std::vector<OwnedTile>& tiles) const {
    const OwnedTile& base = tiles.front();
    const std::string place =
        fmt::format("{}: member {}: byte {}: layer {} {}", source.name(), source.member_index(),
                    base.frame_offset, base.header.layer, static_cast<char>(base.header.kind));
    std::vector<ByteView> qualities;
    for (const OwnedTile& tile : tiles) {
      if (tile.header.quality > 0 && tile.header.codec != format::kThirds) {
        fail_input("{}: codec {} does not refine codec {}", place, tile.header.codec,
                   format::kEcsq);
      }
      qualities.emplace_back(tile.data);
    }
    OwnedTile raw{base.header, {}, base.frame_offset};
    raw.data = decoded_qualities(meta, raw.header, qualities, place);
    raw.header.codec = format::kRaw;
    return raw;
  }

  void take(OwnedTile tile) {
    if (tile.header.codec == format::kClp) {
      decode_layers(std::move(tile));
    } else if (!wanted(tile.header)) {
      return;
    } else if (refinable(tile.header)) {
      decode_refined(std::move(tile));
    } else {
      ready.push_back(std::move(tile));
    }
  }
};

DecodedSource::DecodedSource(TileSource& source, Range layers, Range tokens, int threads)
    : state_(new State{source, layers, tokens, threads, {}, {}, {}, {}, {}}) {}

DecodedSource::~DecodedSource() = default;

std::optional<Meta> DecodedSource::next_member() {
  state_->ahead.reset();
  state_->ready.clear();
  std::optional<Meta> meta = state_->source.next_member();
  if (meta) {
    state_->meta = *meta;
    state_->member.emplace(
        *meta, fmt::format("{}: member {}", state_->source.name(), state_->source.member_index()),
        state_->threads);
  }
  return meta;
}

std::optional<Tile> DecodedSource::next_tile() {
  State& state = *state_;
  if (state.member) state.member->recycle(std::move(state.current.data));
  while (state.ready.empty()) {
    if (state.ahead) {
      state.take(*std::exchange(state.ahead, std::nullopt));
      continue;
    }
    const std::optional<Tile> tile = state.read();
    if (!tile) return std::nullopt;
    const bool as_it_is = tile->header.codec != format::kClp && !state.refinable(tile->header);
    if (as_it_is && state.wanted(tile->header)) return tile;
    state.take(State::owned(*tile));
  }
  state.current = std::move(state.ready.front());
  state.ready.pop_front();
  return Tile{state.current.header, state.current.data, state.current.frame_offset};
}

std::optional<Tile> DecodedSource::next_tile(Bytes& kept) {
  std::optional<Tile> tile = next_tile();
  if (!tile) return std::nullopt;
  if (tile->data.data() == state_->current.data.data()) {
    std::swap(kept, state_->current.data);  // which is given back for the next one
    tile->data = kept;
  } else if (!state_->source.keeps_tiles()) {
    kept.assign(tile->data.begin(), tile->data.end());
    tile->data = kept;
  }
  return tile;
}

}  // namespace kv
