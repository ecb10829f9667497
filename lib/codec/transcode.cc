#include "kv/codec/transcode.hh"

#include "kv/container/slice.hh"

#include <algorithm>

namespace kv {
namespace {

// Tokens of a tile that are chosen, from the member's first.
Range chosen(const format::TileHeader& tile, const Range& tokens) {
  const auto begin = static_cast<std::int64_t>(tile.token_begin);
  const std::int64_t end = begin + tile.token_count;
  return {std::max(begin, tokens.first), tokens.last < 0 ? end : std::min(end, tokens.last)};
}

class MemberCopy {
 public:
  MemberCopy(const Meta& meta, const std::string& place, Writer& writer,
             const TranscodeOptions& options)
      : meta_(meta), place_(place), writer_(writer), options_(options) {}

  bool wants(const format::TileHeader& tile) const {
    const Range part = chosen(tile, options_.tokens);
    return options_.layers.contains(tile.layer) &&
           (part.first < part.last || tile.token_count == 0);
  }

  void copy(const Tile& tile) {
    const Range part = chosen(tile.header, options_.tokens);
    const std::int64_t count = part.last - part.first;
    const std::int64_t step =
        options_.tokens_per_tile > 0
            ? std::min(options_.tokens_per_tile, std::max<std::int64_t>(count, 1))
            : std::max<std::int64_t>(count, 1);
    const bool same_codec = !options_.codec || options_.codec->id() == tile.header.codec;
    format::TileHeader header = tile.header;
    header.token_begin = static_cast<std::uint64_t>(part.first - options_.tokens.first);
    if (same_codec && count == tile.header.token_count && step >= count) {
      writer_.write_tile(header, tile.data);
      return;
    }
    const TensorView whole = decoded_tile(meta_, tile, place_, scratch_);
    const Codec& codec = options_.codec ? *options_.codec : codec_by_id(tile.header.codec, place_);
    header.codec = codec.id();
    const std::int64_t offset = part.first - static_cast<std::int64_t>(tile.header.token_begin);
    for (std::int64_t at = 0; at < count; at += step) {
      const TensorView rows = whole.tokens(offset + at, std::min(step, count - at));
      header.token_begin = static_cast<std::uint64_t>(part.first - options_.tokens.first + at);
      header.token_count = static_cast<std::uint32_t>(rows.shape[0]);
      if (codec.id() == format::kRaw) {
        writer_.write_tile(header, rows.bytes);
      } else {
        writer_.write_tile(header, codec.encode(header, rows));
      }
    }
  }

 private:
  const Meta& meta_;
  const std::string& place_;
  Writer& writer_;
  const TranscodeOptions& options_;
  Bytes scratch_;
};

bool takes(const std::vector<Range>& members, std::uint64_t index) {
  return members.empty() || std::any_of(members.begin(), members.end(), [&](const Range& range) {
           return range.contains(static_cast<std::int64_t>(index));
         });
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
    MemberCopy member(*meta, place, writer, options);
    const auto want = [&](const format::TileHeader& tile) { return member.wants(tile); };
    while (const std::optional<Tile> tile = source.next_tile(want)) member.copy(*tile);
    writer.end_member();
  }
  if (taken == 0) fail_usage("{}: --members takes none of the stream's members", source.name());
}

}  // namespace kv
