#include "kv/codec/transcode.hh"

#include "clp_member.hh"
#include "kv/codec/decoded_source.hh"
#include "kv/codec/profiles.hh"
#include "kv/codec/rate_control.hh"
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
    if (tile.header.codec == format::kClp) {
      fail_usage("{}: tokens {} to {} are coded together; cut there, or decode it (kvdecode)",
                 place_, tile.header.token_begin,
                 tile.header.token_begin + tile.header.token_count);
    }
    const TensorView whole = decoded_tile(meta_, tile, place_, scratch);
    const Codec& codec = options_.codec ? *options_.codec
                         : options_.clp ? codec_by_name("raw")
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

// The profile and step to code a member with: those that were given, if they are of its model, or
// those that the maps give.
ChosenStep choose_step(const Meta& meta, const ClpOptions& options,
                       const std::function<void(const std::string&)>& note,
                       const std::string& place) {
  if (meta.rope_applied) fail_input("{}: keys have RoPE applied; import it again without", place);
  if (options.profile) {
    const std::string& of = options.profile->model.fingerprint;
    if (of != meta.model.fingerprint) {
      fail_input("{}: of model '{}' ({}), the profile is of '{}' ({})", place, meta.model.name,
                 meta.model.fingerprint, options.profile->model.name, of);
    }
  }
  const auto found = [&] {
    return options.profile ? std::vector{options.profile} : find_profiles(meta.model);
  };
  if (options.max_kld) return step_for_kld(found(), *options.max_kld, place);
  if (options.max_bits) return step_for_bits(found(), *options.max_bits, place);
  if (options.profile) return {options.profile, options.base_step};
  if (auto profile = find_profile(meta.model, options.level)) return {profile, options.base_step};
  if (auto other = step_for_level(found(), options.level)) {
    other->step = std::clamp(other->step + options.base_step, -kMostBaseStep, kMostBaseStep);
    if (note) {
      note(
          fmt::format("{}: no profile of level {}; that of level {} with step {} does it in a few "
                      "more bits",
                      place, options.level, other->profile->level, other->step));
    }
    return *other;
  }
  fail_input(
      "{}: no profile of model '{}' for level {}; make it: kvcalibrate -m {} -l {} TEXT... -o "
      "FILE.kvp, and name its folder in KVTOOLS_PROFILES",
      place, meta.model.name, options.level, meta.model.name, options.level);
}

// What META says of the coding: with the step, and the divergence where the map has it.
std::string codec_text(const ChosenStep& chosen) {
  std::string text = fmt::format("clp level={} step={}", chosen.profile->level, chosen.step);
  if (const auto expected = expected_at(*chosen.profile, chosen.step)) {
    text += fmt::format(" kld={:.2g}", expected->kld);
  }
  return text;
}

// Bits of a member's coded tiles against what the map has for the step.
void check_drift(const ChosenStep& chosen, double bits,
                 const std::function<void(const std::string&)>& note, const std::string& place) {
  constexpr double kFar = 1.5;
  const auto expected = expected_at(*chosen.profile, chosen.step);
  if (!note || !expected || !(bits > kFar * expected->bits)) return;
  note(
      fmt::format("{}: {:.2f} bits a value, {:.2f} expected: it is unlike the texts that the "
                  "profile was made from",
                  place, bits, expected->bits));
}

// A layer at a time: the codec `clp` needs the ones before. Returns bits a coded value.
double encode_layers(DecodedSource& source, Writer& writer, const MemberCopy& member,
                     const Meta& meta, ClpMember& coder, const ClpOptions& options) {
  std::vector<OwnedTile> layer;
  double bits = 0, values = 0;
  const auto flush = [&] {
    for (const OwnedTile& tile :
         coder.encode(cut(std::move(layer), options.tokens_per_tile, meta), options)) {
      writer.write_tile(tile.header, tile.data);
      if (tile.header.codec != format::kClp) continue;
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
  DecodedSource decoded(source, options.layers, options.tokens, options.threads);
  while (const std::optional<Meta> meta = decoded.next_member()) {
    if (!takes(options.members, source.member_index())) continue;
    ++taken;
    const std::string place = fmt::format("{}: member {}", source.name(), source.member_index());
    Meta part = slice_meta(*meta, options.layers, options.tokens, place);
    if (options.codec) part.codec = options.codec->name();
    ClpOptions clp = options.clp.value_or(ClpOptions{});
    ChosenStep chosen;
    if (options.clp) {
      chosen = choose_step(*meta, clp, options.note, place);
      clp.profile = chosen.profile;
      clp.base_step = chosen.step;
      part.codec = codec_text(chosen);
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
    const bool kept = options.keeps_importance();
    writer.begin_member(part, tokens, kept ? importance : Importance{});
    const MemberCopy member(*meta, place, options);
    if (options.clp) {
      ClpMember coder(part, place, options.threads);
      if (clp.use_importance) coder.set_importance(std::move(importance));
      const double bits = encode_layers(decoded, writer, member, part, coder, clp);
      check_drift(chosen, bits, options.note, place);
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
