#include "kv/container/reader.hh"

#include "kv/container/frame_reader.hh"
#include "kv/container/tile_order.hh"

#include <stdexcept>

namespace kv {

using format::FrameHeader;
using format::FrameType;

TensorView Tile::view(const Meta& meta) const {
  TensorView shaped = meta.shape_of(header);
  shaped.bytes = data;
  if (header.codec != format::kRaw ||
      data.size() != static_cast<std::size_t>(shaped.shape[0]) * shaped.row_bytes()) {
    throw std::logic_error("Tile::view: not a raw tile of its member");
  }
  return shaped;
}

struct Reader::State {
  FrameReader frames;
  Meta meta;
  std::vector<std::int32_t> tokens;
  Importance importance;
  std::optional<TileOrder> order;  // of `meta`; has a value while inside a member
  bool header_taken = false;       // frames.header() waits to be used
  std::uint64_t tiles = 0;
  StreamHash index;  // of the entries that INDX must hold
  std::uint64_t index_offset = 0;
  std::uint64_t member_hash = 0;

  explicit State(Input input, Options options) : frames(std::move(input), std::move(options)) {}

  // Skips optional frames of types that this version does not know.
  FrameType next_type() {
    while (true) {
      if (!header_taken) frames.next();
      header_taken = false;
      const FrameHeader& header = frames.header();
      switch (header.type) {
        case FrameType::kMeta:
        case FrameType::kTokens:
        case FrameType::kTensor:
        case FrameType::kIndex:
        case FrameType::kEnd:
          if (header.flags != 0) frames.refuse("flagged optional, which its type is not");
          return header.type;
        case FrameType::kImportance:
          break;
      }
      const bool known = header.type == FrameType::kImportance;
      if (header.flags != format::kOptional) {
        if (known) frames.refuse("not flagged optional, which its type is");
        frames.refuse("unknown, and required to read the member", kUpdate);
      }
      if (index_offset != 0) frames.refuse("stands between INDX and END");
      if (frames.frame_count() == 1) frames.refuse("the member does not begin with META");
      if (known) return header.type;
      frames.skip_payload();
    }
  }

  void require_size(std::uint64_t size_bytes) const {
    if (frames.header().size_bytes == size_bytes) return;
    frames.refuse(fmt::format("{} bytes instead of {}", frames.header().size_bytes, size_bytes));
  }

  void require_all_tiles() const {
    if (const std::string missing = order->missing(); !missing.empty()) frames.refuse(missing);
  }

  void take_meta() {
    if (next_type() != FrameType::kMeta) frames.refuse("the member does not begin with META");
    if (frames.header().size_bytes > format::kMaxMetaBytes) {
      frames.refuse(fmt::format("{} bytes, over the limit of {}", frames.header().size_bytes,
                                format::kMaxMetaBytes));
    }
    meta = meta_from_json(as_text(frames.payload()), frames.place());
  }

  void take_tokens() {
    require_size(static_cast<std::uint64_t>(meta.token_count) * sizeof(std::int32_t));
    const ByteView payload = frames.payload();
    tokens.resize(static_cast<std::size_t>(meta.token_count));
    if (!tokens.empty()) std::memcpy(tokens.data(), payload.data(), payload.size());
    for (const std::int32_t id : tokens) {
      if (id < 0)
        frames.refuse(fmt::format("token id {} is over 2^31-1", static_cast<std::uint32_t>(id)));
    }
  }

  // META, then TOKN, then IMPT, of which only META must be there.
  void take_head() {
    take_meta();
    frames.meta = &meta;
    std::uint64_t behind = frames.frame_count();
    FrameType type = next_type();
    if (type == FrameType::kTokens) {
      take_tokens();
      behind = frames.frame_count();
      type = next_type();
    }
    if (type == FrameType::kImportance && frames.frame_count() == behind + 1) {
      take_importance();
    } else {
      header_taken = true;
    }
  }

  void take_importance() {
    require_size(importance_size_bytes(meta));
    const ByteView payload = frames.payload();
    importance.resize(payload.size());
    if (!payload.empty()) std::memcpy(importance.data(), payload.data(), payload.size());
    if (const std::string problem = problem_of(importance); !problem.empty()) {
      frames.refuse(problem);
    }
  }

  Tile take_tile() {
    if (index_offset != 0) frames.refuse("TENS stands behind INDX");
    if (frames.header().size_bytes < sizeof(format::TileHeader)) {
      frames.refuse("too small for a tile header");
    }
    format::IndexEntry entry;
    entry.offset = frames.frame_offset() - frames.member_offset();
    entry.size_bytes = frames.header().size_bytes;
    entry.payload_hash = frames.header().payload_hash;
    const ByteView payload = frames.payload();
    std::memcpy(&entry.tile, payload.data(), sizeof(entry.tile));
    const ByteView data = payload.subspan(sizeof(entry.tile));
    if (const std::string problem = order->accept(entry.tile, data.size()); !problem.empty()) {
      frames.refuse(problem);
    }
    index.add(std::as_bytes(std::span(&entry, 1)));
    ++tiles;
    frames.whole = fmt::format("{} tiles, {} of {} tensors", tiles, order->whole_tensors(),
                               order->tensor_count());
    return {entry.tile, data, frames.frame_offset()};
  }

  void take_index() {
    if (index_offset != 0) frames.refuse("second INDX");
    require_all_tiles();
    require_size(tiles * sizeof(format::IndexEntry));
    const std::uint64_t hash = frames.header().payload_hash;
    frames.payload();
    if (hash != index.value()) frames.refuse("does not match the frames before it");
    index_offset = frames.frame_offset() - frames.member_offset();
  }

  void take_end() {
    require_all_tiles();
    require_size(sizeof(format::EndPayload));
    format::EndPayload end;
    member_hash = frames.header().header_hash;
    std::memcpy(&end, frames.payload().data(), sizeof(end));
    const auto same = [&](const char* what, std::uint64_t said, std::uint64_t is) {
      if (said != is) frames.refuse(fmt::format("says {} {}, but it is {}", what, said, is));
    };
    same("frame_count", end.frame_count, frames.frame_count());
    same("member_size_bytes", end.member_size_bytes, frames.offset() - frames.member_offset());
    same("index_offset", end.index_offset, index_offset);
    same("reserved", end.reserved, 0);
    order.reset();
  }
};

Reader::Reader(Input input) : Reader(std::move(input), Options{}) {}
Reader::Reader(Input input, Options options)
    : state_(std::make_unique<State>(std::move(input), std::move(options))) {}
Reader::~Reader() = default;

std::optional<Meta> Reader::next_member() {
  State& state = *state_;
  while (next_tile()) {
  }
  if (!state.frames.begin_member()) return std::nullopt;
  state.tokens.clear();
  state.importance.clear();
  state.tiles = 0;
  state.index.reset();
  state.index_offset = 0;
  state.take_head();
  state.order.emplace(state.meta);
  return state.meta;
}

const std::vector<std::int32_t>& Reader::tokens() { return state_->tokens; }
const Importance& Reader::importance() { return state_->importance; }

std::optional<Tile> Reader::next_tile() {
  State& state = *state_;
  while (state.order) {
    switch (state.next_type()) {
      case FrameType::kMeta:
        state.frames.refuse("second META");
        break;
      case FrameType::kTokens:
        state.frames.refuse(state.importance.empty() ? "second TOKN, or one behind TENS"
                                                     : "second TOKN, or one behind IMPT");
        break;
      case FrameType::kImportance:
        state.frames.refuse("second IMPT, or one that does not follow TOKN");
        break;
      case FrameType::kTensor:
        return state.take_tile();
      case FrameType::kIndex:
        state.take_index();
        break;
      case FrameType::kEnd:
        state.take_end();
        break;
    }
  }
  return std::nullopt;
}

const std::string& Reader::name() const { return state_->frames.name(); }
std::uint64_t Reader::offset() const { return state_->frames.offset(); }
std::uint64_t Reader::member_index() const { return state_->frames.member_index(); }
std::uint64_t Reader::member_hash() const { return state_->member_hash; }
std::uint64_t Reader::frame_count() const { return state_->frames.frame_count(); }

}  // namespace kv
