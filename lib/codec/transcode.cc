#include "kv/codec/transcode.hh"

#include "clp_choice.hh"
#include "clp_member.hh"
#include "ecsq.hh"
#include "kv/codec/decoded_source.hh"
#include "kv/container/slice.hh"
#include "ordered_pool.hh"

#include <algorithm>

namespace kv {
namespace {

// Tokens of a tile that are chosen, from the member's first.
Range chosen_tokens(const format::TileHeader& tile, const Range& tokens) {
  const auto begin = static_cast<std::int64_t>(tile.token_begin);
  const std::int64_t end = begin + tile.token_count;
  return {std::max(begin, tokens.first), tokens.last < 0 ? end : std::min(end, tokens.last)};
}

struct CodedTile {
  format::TileHeader header;
  Bytes data;
};

class MemberCopy {
 public:
  MemberCopy(const Meta& meta, const std::string& place, const TranscodeOptions& options)
      : meta_(meta), place_(place), options_(options) {}

  bool wants(const format::TileHeader& tile) const {
    const Range part = chosen_tokens(tile, options_.tokens);
    return options_.layers.contains(tile.layer) && part.first < part.last &&
           (!options_.quality || tile.quality <= *options_.quality);
  }

  bool stays(const format::TileHeader& tile) const {
    const Range part = chosen_tokens(tile, options_.tokens);
    return (!options_.codec ||
            (options_.codec->lossless() && options_.codec->id() == tile.codec)) &&
           part.last - part.first == tile.token_count &&
           step_of(tile.token_count) >= part.last - part.first;
  }

  format::TileHeader moved(format::TileHeader tile, std::int64_t first) const {
    tile.token_begin = static_cast<std::uint64_t>(first - options_.tokens.first);
    return tile;
  }

  // The tile's chosen tokens in the new form, cut. Called from several threads.
  std::vector<CodedTile> recoded(const Tile& tile) const {
    thread_local Bytes scratch;
    const Range part = chosen_tokens(tile.header, options_.tokens);
    const bool refined = meta_.quality_layers > 1 && tile.header.codec == format::kEcsq;
    if (tile.header.codec == format::kClp || tile.header.quality > 0 || refined) {
      fail_usage("{}: tokens {} to {} are coded together; cut there, or decode it (kvdecode)",
                 place_, tile.header.token_begin,
                 tile.header.token_begin + tile.header.token_count);
    }
    const TensorView whole = decoded_tile(meta_, tile, place_, scratch);
    const Codec& codec = options_.codec                  ? *options_.codec
                         : options_.clp || options_.ecsq ? codec_by_name("raw")
                                                         : codec_of_parts(tile.header.codec);
    const std::int64_t step = step_of(part.last - part.first);
    std::vector<CodedTile> parts;
    for (std::int64_t first = part.first; first < part.last; first += step) {
      const std::int64_t offset = first - static_cast<std::int64_t>(tile.header.token_begin);
      const TensorView rows = whole.tokens(offset, std::min(step, part.last - first));
      format::TileHeader header = tile.header;
      header.token_begin = static_cast<std::uint64_t>(first);  // where META's positions are
      header.token_count = static_cast<std::uint32_t>(rows.shape[0]);
      Coded coded = codec.encode_in(meta_, header, rows);
      if (coded.data.size() >= rows.bytes.size() && coded.codec != format::kRaw) {
        coded = {format::kRaw, Bytes(rows.bytes.begin(), rows.bytes.end())};
      }
      header.codec = coded.codec;
      parts.push_back({moved(header, first), std::move(coded.data)});
    }
    return parts;
  }

 private:
  // A part of a lossy tile loses no more.
  const Codec& codec_of_parts(std::uint16_t id) const {
    const Codec& codec = codec_by_id(id, place_);
    return codec.lossless() ? codec : codec_by_name("planes");
  }

  std::int64_t step_of(std::int64_t count) const {
    return options_.tokens_per_tile > 0 ? std::min(options_.tokens_per_tile, count) : count;
  }

  const Meta& meta_;
  const std::string& place_;
  const TranscodeOptions& options_;
};

template <typename NextTile>
void copy_tiles(NextTile&& next_tile, Writer& writer, const MemberCopy& member, int threads) {
  OrderedPool<std::vector<CodedTile>> pool(threads, [&](const std::vector<CodedTile>& tiles) {
    for (const CodedTile& tile : tiles) writer.write_tile(tile.header, tile.data);
  });
  while (const std::optional<Tile> tile = next_tile()) {
    if (member.stays(tile->header)) {
      pool.finish();
      const auto first = static_cast<std::int64_t>(tile->header.token_begin);
      writer.write_tile(member.moved(tile->header, first), tile->data);
    } else if (threads < 2) {
      pool.add([&] { return member.recoded(*tile); });
    } else {
      // The tile's bytes live until the next one is asked for.
      pool.add([&member, header = tile->header, offset = tile->frame_offset,
                data = Bytes(tile->data.begin(), tile->data.end())] {
        return member.recoded({header, data, offset});
      });
    }
  }
  pool.finish();
}

// Raw tiles of one layer, cut to at most so many tokens, in the order of the format.
std::vector<OwnedTile> cut(std::vector<OwnedTile> tiles, std::int64_t tokens, const Meta& meta) {
  std::vector<OwnedTile> parts;
  for (std::size_t i = 0; i < tiles.size();) {
    const format::Kind kind = tiles[i].header.kind;
    Bytes all;
    std::uint32_t count = 0;
    format::TileHeader header = tiles[i].header;
    for (; i < tiles.size() && tiles[i].header.kind == kind; ++i) {
      all.insert(all.end(), tiles[i].data.begin(), tiles[i].data.end());
      count += tiles[i].header.token_count;
    }
    header.token_count = count;
    const TensorView shape = meta.shape_of(header);
    const std::size_t row_bytes = shape.row_bytes();
    const std::int64_t step =
        std::min(tokens, std::max<std::int64_t>(1, kMostTileValues / shape.row_values()));
    const std::uint64_t first = header.token_begin;
    for (std::uint32_t done = 0; done < count; done += header.token_count) {
      header.token_begin = first + done;
      header.token_count = std::min(static_cast<std::uint32_t>(step), count - done);
      const auto from = all.begin() + static_cast<std::ptrdiff_t>(done * row_bytes);
      parts.push_back(
          {header, Bytes(from, from + static_cast<std::ptrdiff_t>(header.token_count * row_bytes)),
           0});
    }
  }
  return parts;
}

using Layer = std::vector<OwnedTile>;

// A layer at a time: the codec `clp` needs the ones before, and small tiles are joined. Returns
// bits a value of what was coded.
double encode_layers(DecodedSource& source, Writer& writer, const MemberCopy& member,
                     const Meta& meta, std::int64_t tokens_per_tile,
                     const std::function<Layer(Layer)>& encode) {
  Layer layer;
  double bits = 0, values = 0;
  const auto flush = [&] {
    for (const OwnedTile& tile : encode(cut(std::move(layer), tokens_per_tile, meta))) {
      writer.write_tile(tile.header, tile.data);
      if (tile.header.codec == format::kRaw) continue;
      const TensorView shape = meta.shape_of(tile.header);
      bits += 8.0 * static_cast<double>(tile.data.size());
      values += static_cast<double>(shape.shape[0] * shape.row_values());
    }
    layer.clear();
  };
  while (const std::optional<Tile> tile = source.next_tile()) {
    if (!layer.empty() && layer.front().header.layer != tile->header.layer) flush();
    for (CodedTile& part : member.recoded(*tile))
      layer.push_back({part.header, std::move(part.data), 0});
  }
  if (!layer.empty()) flush();
  return bits / std::max(values, 1.0);
}

Layer encode_each(Layer raw, const EcsqCodec& codec, const Meta& meta, int threads) {
  Layer coded;
  OrderedPool<Layer> pool(threads, [&](Layer tiles) {
    for (OwnedTile& tile : tiles) coded.push_back(std::move(tile));
  });
  for (OwnedTile& tile : raw) {
    pool.add([&] {
      TensorView rows = meta.shape_of(tile.header);
      rows.bytes = tile.data;
      std::vector<Coded> qualities = codec.encode_qualities(meta, tile.header, rows);
      Layer tiles;
      if (qualities.front().data.size() >= tile.data.size()) {
        tiles.push_back(std::move(tile));
        return tiles;
      }
      for (Coded& quality : qualities) {
        tile.header.codec = quality.codec;
        tiles.push_back({tile.header, std::move(quality.data), 0});
        ++tile.header.quality;
      }
      return tiles;
    });
  }
  pool.finish();
  return coded;
}

bool takes(const std::vector<Range>& members, std::uint64_t index) {
  return members.empty() || std::any_of(members.begin(), members.end(), [&](const Range& range) {
           return range.contains(static_cast<std::int64_t>(index));
         });
}

void require_members(const std::vector<Range>& members, const TileSource& source) {
  const auto count = static_cast<std::int64_t>(source.member_index()) + 1;
  for (const Range& range : members) {
    const std::int64_t last = range.last < 0 ? range.first : range.last - 1;
    if (last >= count) {
      fail_usage("{}: --members asks for member {}, the stream's last is {}", source.name(), last,
                 count - 1);
    }
  }
}

}  // namespace

void transcode(TileSource& source, Writer& writer, const TranscodeOptions& options) {
  std::uint64_t taken = 0;
  Notes notes(options.note);
  DecodedSource decoded(source, options.layers, options.tokens, options.threads);
  while (const std::optional<Meta> meta = decoded.next_member()) {
    if (!takes(options.members, source.member_index())) continue;
    ++taken;
    const std::string place = fmt::format("{}: member {}", source.name(), source.member_index());
    Meta part = slice_meta(*meta, options.layers, options.tokens, place);
    if (options.codec) part.codec = options.codec->name();
    if (options.codec || options.clp || options.ecsq) part.quality_layers = 1;
    if (options.quality) {
      part.quality_layers =
          static_cast<std::uint16_t>(std::min<int>(part.quality_layers, *options.quality + 1));
    }
    ClpOptions clp = options.clp.value_or(ClpOptions{});
    ChosenStep chosen;
    if (options.clp) {
      chosen = choose_step(*meta, clp, options.ecsq.has_value(), notes, place);
      clp.profile = chosen.profile;
      clp.base_step = chosen.step;
      if (clp.profile) part.codec = codec_text(chosen);
    }
    if (options.history) {
      part.history.push_back(*options.history);
    } else {
      part.history.clear();
    }
    std::vector<std::int32_t> tokens = source.tokens();
    if (!tokens.empty()) {
      tokens.erase(tokens.begin(), tokens.begin() + options.tokens.first);
      tokens.resize(static_cast<std::size_t>(part.token_count));
    }
    Importance importance =
        slice_importance(source.importance(), *meta, options.layers, options.tokens);
    std::optional<EcsqCodec> ecsq;
    if (options.ecsq && !clp.profile) {
      ecsq.emplace(part, *options.ecsq, importance);
      part.codec = ecsq->name();
      part.quality_layers = static_cast<std::uint16_t>(1 + options.ecsq->refinements);
    }
    const bool kept = options.keeps_importance();
    writer.begin_member(part, tokens, kept ? importance : Importance{});
    const MemberCopy member(*meta, place, options);
    if (ecsq) {
      encode_layers(decoded, writer, member, part, options.ecsq->tokens_per_tile, [&](Layer raw) {
        return encode_each(std::move(raw), *ecsq, part, options.threads);
      });
    } else if (options.clp) {
      ClpMember coder(part, place, options.threads);
      const bool weighed = clp.use_importance && !importance.empty();
      if (weighed) coder.set_importance(std::move(importance));
      const double bits =
          encode_layers(decoded, writer, member, part, clp.tokens_per_tile,
                        [&](Layer raw) { return coder.encode(std::move(raw), clp); });
      if (weighed) check_drift(chosen, bits, notes, place);  // the map is of such caches
    } else if (options.codec) {
      copy_tiles([&] { return decoded.next_tile(); }, writer, member, options.threads);
    } else {
      const auto want = [&](const format::TileHeader& tile) { return member.wants(tile); };
      copy_tiles([&] { return source.next_tile(want); }, writer, member, options.threads);
    }
    writer.end_member();
  }
  if (taken == 0) fail_usage("{}: --members takes none of the stream's members", source.name());
  require_members(options.members, source);
}

}  // namespace kv
