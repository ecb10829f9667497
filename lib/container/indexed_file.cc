#include "kv/base/hash.hh"
#include "kv/container/frame_map.hh"
#include "kv/container/frame_reader.hh"
#include "kv/container/reader.hh"
#include "kv/container/tile_order.hh"

#include <algorithm>

namespace kv {

using format::FrameHeader;
using format::FrameType;

namespace {

constexpr std::uint64_t kEndFrameBytes = sizeof(FrameHeader) + sizeof(format::EndPayload);

struct Member : Extent {
  std::uint64_t meta_end = 0;  // from the member's start, as all offsets below
  std::uint64_t index_offset = 0;
  std::uint64_t meta_chain = 0;  // header_hash of META
  Meta meta;
  std::vector<format::IndexEntry> index;
};

// One of those before the tiles.
struct HeadFrame {
  std::uint64_t offset = 0;  // from the member's start
  FrameHeader header;
};

}  // namespace

struct IndexedFile::State : FrameMap {
  std::vector<Member> members;

  explicit State(const Input& input) : FrameMap(input) {
    for (std::uint64_t end = size_bytes(); end > 0; end = members.back().begin) add_member(end);
    std::reverse(members.begin(), members.end());
  }

  // The frame of this type between META and the first tile.
  std::optional<HeadFrame> find(const Member& member, FrameType type) {
    HeadFrame frame{member.meta_end, {}};
    for (std::uint64_t chain = member.meta_chain;; chain = frame.header.header_hash) {
      frame.header = frame_header(member, frame.offset, chain);
      if (frame.header.type == type) return frame;
      if (frame.header.type != FrameType::kTokens && frame.header.flags != format::kOptional) {
        return std::nullopt;
      }
      frame.offset = frame_end(frame.offset, frame.header);
    }
  }

  ByteView payload_of(const Member& member, const HeadFrame& frame, std::uint32_t flags,
                      std::uint64_t wanted_bytes) {
    if (frame.header.flags != flags || frame.header.size_bytes != wanted_bytes) {
      refuse(member.begin + frame.offset,
             type_text(frame.header.type) + " frame: wrong size or flags");
    }
    return payload(member, frame.offset, frame.header);
  }

  // The member whose END ends at `end`.
  void add_member(std::uint64_t end) {
    Member member;
    const format::EndPayload last = read_end(end);
    member.size_bytes = last.member_size_bytes;
    member.begin = end - member.size_bytes;
    member.index_offset = last.index_offset;
    const auto start = get<format::MemberHeader>(member, 0, "the member header");
    if (start.magic != format::kMagic) {
      refuse(member.begin, "no member begins where END says");
    }
    if (start.major != format::kMajor) {
      fail_input("{}: byte {}: format version {}.{}, where this program reads {}.x; {}", name(),
                 member.begin, start.major, start.minor, format::kMajor, kUpdate);
    }
    if (start.reserved != 0) refuse(member.begin, "reserved bits of the member header are set");
    read_meta(member, xxh3_64(std::as_bytes(std::span(&start, 1))));
    read_index(member);
    members.push_back(std::move(member));
  }

  format::EndPayload read_end(std::uint64_t end) {
    Member tail;
    tail.size_bytes = std::min(end, kEndFrameBytes);
    tail.begin = end - tail.size_bytes;
    const std::string cause = "no END frame: truncated, or bytes behind it";
    if (tail.size_bytes < kEndFrameBytes || end % format::kAlignment != 0) refuse(end, cause);
    const auto header = get<FrameHeader>(tail, 0, "END");
    if (header.type != FrameType::kEnd || header.flags != 0 ||
        header.size_bytes != sizeof(format::EndPayload)) {
      refuse(end, cause);
    }
    format::EndPayload end_payload;
    std::memcpy(&end_payload, payload(tail, 0, header).data(), sizeof(end_payload));
    if (end_payload.reserved != 0 || end_payload.member_size_bytes > end ||
        end_payload.member_size_bytes % format::kAlignment != 0 ||
        end_payload.member_size_bytes < sizeof(format::MemberHeader) + 2 * kEndFrameBytes) {
      refuse(tail.begin, "END frame: wrong member size or reserved bits");
    }
    return end_payload;
  }

  void read_meta(Member& member, std::uint64_t chain) {
    const std::uint64_t offset = sizeof(format::MemberHeader);
    const FrameHeader header = frame_header(member, offset, chain);
    if (header.type != FrameType::kMeta || header.flags != 0) {
      refuse(member.begin + offset, "the member does not begin with META");
    }
    member.meta =
        meta_from_json(as_text(payload(member, offset, header)),
                       fmt::format("{}: byte {}: META frame", name(), member.begin + offset));
    member.meta_end = frame_end(offset, header);
    member.meta_chain = header.header_hash;
  }

  void read_index(Member& member) {
    const std::uint64_t end_offset = member.size_bytes - kEndFrameBytes;
    if (member.index_offset == 0) {
      fail_input("{}: the member at byte {} has no index; rewrite it with kvcat", name(),
                 member.begin);
    }
    if (member.index_offset < member.meta_end || member.index_offset % format::kAlignment != 0) {
      refuse(member.begin + end_offset, "END frame: wrong index_offset");
    }
    const FrameHeader header = frame_header(member, member.index_offset, std::nullopt);
    if (header.type != FrameType::kIndex || header.flags != 0 ||
        header.size_bytes % sizeof(format::IndexEntry) != 0 ||
        frame_end(member.index_offset, header) != end_offset) {
      refuse(member.begin + member.index_offset, "no INDX frame where END says");
    }
    frame_header(member, end_offset, header.header_hash);
    const ByteView bytes = payload(member, member.index_offset, header);
    member.index.resize(bytes.size() / sizeof(format::IndexEntry));
    if (!bytes.empty()) std::memcpy(member.index.data(), bytes.data(), bytes.size());
    check_index(member);
  }

  void check_index(const Member& member) {
    TileOrder order(member.meta);
    std::uint64_t free_from = member.meta_end;
    const auto refuse_index = [&](const std::string& cause) {
      refuse(member.begin + member.index_offset, "INDX frame: " + cause);
    };
    for (const format::IndexEntry& entry : member.index) {
      const std::uint64_t room = member.index_offset - free_from;
      if (entry.reserved != 0 || entry.offset % format::kAlignment != 0 ||
          entry.offset < free_from || entry.offset - free_from > room ||
          entry.size_bytes > format::kMaxFrameBytes ||
          entry.size_bytes < sizeof(format::TileHeader) ||
          room - (entry.offset - free_from) < sizeof(FrameHeader) + entry.size_bytes) {
        refuse_index("an entry leaves its place or overlaps the one before");
      }
      const std::string problem =
          order.accept(entry.tile, entry.size_bytes - sizeof(format::TileHeader));
      if (!problem.empty()) refuse_index(problem);
      FrameHeader header;
      header.size_bytes = entry.size_bytes;
      free_from = std::min(frame_end(entry.offset, header), member.index_offset);
    }
    if (const std::string missing = order.missing(); !missing.empty()) refuse_index(missing);
  }
};

IndexedFile::IndexedFile(const Input& input) : state_(std::make_unique<State>(input)) {}
IndexedFile::~IndexedFile() = default;

std::size_t IndexedFile::members() const { return state_->members.size(); }
const Meta& IndexedFile::meta(std::size_t member) const { return state_->members.at(member).meta; }
const std::vector<format::IndexEntry>& IndexedFile::index(std::size_t member) const {
  return state_->members.at(member).index;
}

std::vector<std::int32_t> IndexedFile::tokens(std::size_t index) const {
  State& state = *state_;
  const Member& member = state.members.at(index);
  const std::optional<HeadFrame> frame = state.find(member, FrameType::kTokens);
  if (!frame) return {};
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(member.meta.token_count));
  const ByteView bytes = state.payload_of(member, *frame, 0, tokens.size() * sizeof(std::int32_t));
  if (!bytes.empty()) std::memcpy(tokens.data(), bytes.data(), bytes.size());
  if (std::any_of(tokens.begin(), tokens.end(), [](std::int32_t id) { return id < 0; })) {
    state.refuse(member.begin + frame->offset, "TOKN frame: an id is over 2^31-1");
  }
  return tokens;
}

Importance IndexedFile::importance(std::size_t index) const {
  State& state = *state_;
  const Member& member = state.members.at(index);
  const std::optional<HeadFrame> frame = state.find(member, FrameType::kImportance);
  if (!frame) return {};
  const ByteView bytes =
      state.payload_of(member, *frame, format::kOptional, importance_size_bytes(member.meta));
  Importance importance(bytes.size());
  if (!bytes.empty()) std::memcpy(importance.data(), bytes.data(), bytes.size());
  if (const std::string problem = problem_of(importance); !problem.empty()) {
    state.refuse(member.begin + frame->offset, "IMPT frame: " + problem);
  }
  return importance;
}

Tile IndexedFile::tile(std::size_t index, std::size_t entry_index) const {
  State& state = *state_;
  const Member& member = state.members.at(index);
  const format::IndexEntry& entry = member.index.at(entry_index);
  const FrameHeader header = state.frame_header(member, entry.offset, std::nullopt);
  if (header.type != FrameType::kTensor || header.flags != 0 ||
      header.size_bytes != entry.size_bytes || header.payload_hash != entry.payload_hash) {
    state.refuse(member.begin + entry.offset, "TENS frame: not as INDX says");
  }
  const ByteView payload = state.payload(member, entry.offset, header);
  Tile tile;
  std::memcpy(&tile.header, payload.data(), sizeof(tile.header));
  if (tile.header != entry.tile) {
    state.refuse(member.begin + entry.offset, "TENS frame: tile not as INDX says");
  }
  tile.data = payload.subspan(sizeof(tile.header));
  tile.frame_offset = member.begin + entry.offset;
  return tile;
}

std::uint64_t IndexedFile::member_size_bytes(std::size_t member) const {
  return state_->members.at(member).size_bytes;
}

std::uint64_t IndexedFile::touched_bytes() const { return state_->touched_bytes(); }

}  // namespace kv
