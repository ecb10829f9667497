#include "kv/codec/transcode.hh"

#include "kv/container/slice.hh"
#include "ordered_pool.hh"

#include <algorithm>

namespace kv {
namespace {

// Tokens of a tile that are chosen, from the member's first.
Range chosen(const format::TileHeader& tile, const Range& tokens) {
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
    const Range part = chosen(tile, options_.tokens);
    return options_.layers.contains(tile.layer) && part.first < part.last;
  }

  bool stays(const format::TileHeader& tile) const {
    const Range part = chosen(tile, options_.tokens);
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
    const Range part = chosen(tile.header, options_.tokens);
    const TensorView whole = decoded_tile(meta_, tile, place_, scratch);
    const Codec& codec = options_.codec ? *options_.codec : codec_of_parts(tile.header.codec);
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

void copy_tiles(TileSource& source, Writer& writer, const MemberCopy& member, int threads) {
  OrderedPool<std::vector<CodedTile>> pool(threads, [&](const std::vector<CodedTile>& tiles) {
    for (const CodedTile& tile : tiles) writer.write_tile(tile.header, tile.data);
  });
  const auto want = [&](const format::TileHeader& tile) { return member.wants(tile); };
  while (const std::optional<Tile> tile = source.next_tile(want)) {
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
  while (const std::optional<Meta> meta = source.next_member()) {
    if (!takes(options.members, source.member_index())) continue;
    ++taken;
    const std::string place = fmt::format("{}: member {}", source.name(), source.member_index());
    Meta part = slice_meta(*meta, options.layers, options.tokens, place);
    if (options.codec) part.codec = options.codec->name();
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
    writer.begin_member(part, tokens);
    copy_tiles(source, writer, MemberCopy(*meta, place, options), options.threads);
    writer.end_member();
  }
  if (taken == 0) fail_usage("{}: --members takes none of the stream's members", source.name());
  require_members(options.members, source);
}

}  // namespace kv
