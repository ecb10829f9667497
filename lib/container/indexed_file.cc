#include "kv/base/hash.hh"
#include "kv/container/frame_reader.hh"
#include "kv/container/notes.hh"
#include "kv/container/reader.hh"
#include "kv/container/tile_order.hh"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

namespace kv {

using format::FrameHeader;
using format::FrameType;

namespace {

constexpr std::uint64_t kMostResidentBytes = 32u << 20;
constexpr std::uint64_t kEndFrameBytes = sizeof(FrameHeader) + sizeof(format::EndPayload);

struct Member {
  std::uint64_t begin = 0, size_bytes = 0;  // in the file
  std::uint64_t meta_end = 0;               // from the member's start, as all offsets below
  std::uint64_t index_offset = 0;
  std::uint64_t meta_chain = 0;  // header_hash of META
  Meta meta;
  std::vector<format::IndexEntry> index;
};

}  // namespace

struct IndexedFile::State {
  Input input;
  Mapping mapping;
  std::vector<Member> members;
  std::vector<bool> touched_pages;
  std::uint64_t page_bytes = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  std::uint64_t touched_page_count = 0;
  std::uint64_t resident_bytes = 0;  // of payloads, at most

  explicit State(const std::string& path) : input(Input::open(path)) {
    if (!input.size_bytes()) {
      fail_usage("{}: not a regular file; write it to a file first", input.name());
    }
    mapping = input.map();
    const ByteView all = mapping.bytes();
    touched_pages.resize(all.size() / page_bytes + 1);
    if (all.empty()) fail_input("{}: empty, not a kv stream; give a .kv file", input.name());
    advise(all, MADV_RANDOM);  // pages that nobody asked for need not be read ahead
    touch(0, std::min(all.size(), format::kMagic.size()));
    if (!as_text(all).starts_with(as_text(std::as_bytes(std::span(format::kMagic))))) {
      fail_input("{}: byte 0: not a kv stream; give a .kv file", input.name());
    }
    for (std::uint64_t end = all.size(); end > 0; end = members.back().begin) add_member(end);
    std::reverse(members.begin(), members.end());
  }

  [[noreturn]] void refuse(std::uint64_t offset, const std::string& cause) const {
    fail_input("{}: byte {}: {}; {}", input.name(), offset, cause, kDamaged);
  }

  // Bytes of the member, at most up to its end.
  ByteView view(const Member& member, std::uint64_t offset, std::uint64_t size_bytes,
                std::string_view what) {
    if (offset > member.size_bytes || member.size_bytes - offset < size_bytes) {
      refuse(member.begin + std::min(offset, member.size_bytes),
             fmt::format("{} leaves its member", what));
    }
    touch(member.begin + offset, size_bytes);
    return mapping.bytes().subspan(static_cast<std::size_t>(member.begin + offset),
                                   static_cast<std::size_t>(size_bytes));
  }

  // `bytes` lie in the mapping.
  void advise(ByteView bytes, int advice) const {
    const auto before = reinterpret_cast<std::uintptr_t>(bytes.data()) % page_bytes;
    madvise(const_cast<std::byte*>(bytes.data()) - before, bytes.size() + before, advice);
  }

  template <typename T>
  T get(const Member& member, std::uint64_t offset, std::string_view what) {
    T value;
    std::memcpy(&value, view(member, offset, sizeof(T), what).data(), sizeof(T));
    return value;
  }

  void touch(std::uint64_t offset, std::uint64_t size_bytes) {
    if (size_bytes == 0) return;
    for (std::uint64_t page = offset / page_bytes; page <= (offset + size_bytes - 1) / page_bytes;
         ++page) {
      touched_page_count += touched_pages[page] ? 0 : 1;
      touched_pages[page] = true;
    }
  }

  // The header at `offset`, a multiple of the alignment; `chain` is the header hash before it.
  FrameHeader frame_header(const Member& member, std::uint64_t offset,
                           std::optional<std::uint64_t> chain) {
    const auto header = get<FrameHeader>(member, offset, "a frame");
    const auto refuse_header = [&](std::string_view cause) {
      refuse(member.begin + offset, fmt::format("{} frame: {}", type_text(header.type), cause));
    };
    const ByteView hashed = mapping.bytes().subspan(static_cast<std::size_t>(member.begin + offset),
                                                    offsetof(FrameHeader, header_hash));
    if (chain && xxh3_64(hashed, *chain) != header.header_hash) {
      refuse_header("header checksum mismatch");
    }
    if (header.size_bytes > format::kMaxFrameBytes) refuse_header("over the size limit");
    return header;
  }

  ByteView payload(const Member& member, std::uint64_t offset, const FrameHeader& header) {
    const std::string what = type_text(header.type) + " frame";
    const ByteView bytes = view(member, offset + sizeof(header), header.size_bytes, what);
    if (bytes.size() > page_bytes) advise(bytes, MADV_WILLNEED);
    // Memory stays small however many tiles are read. Views stay valid: pages come back.
    resident_bytes += bytes.size();
    if (resident_bytes > kMostResidentBytes) {
      advise(mapping.bytes(), MADV_DONTNEED);
      resident_bytes = bytes.size();
    }
    if (xxh3_64(bytes) != header.payload_hash) {
      refuse(member.begin + offset, what + ": payload checksum mismatch");
    }
    return bytes;
  }

  static std::uint64_t frame_end(std::uint64_t offset, const FrameHeader& header) {
    const std::uint64_t end = offset + sizeof(header) + header.size_bytes;
    return end + (-end % format::kAlignment);
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
      fail_input("{}: byte {}: format version {}.{}, where this program reads {}.x; {}",
                 input.name(), member.begin, start.major, start.minor, format::kMajor, kUpdate);
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
                       fmt::format("{}: byte {}: META frame", input.name(), member.begin + offset));
    member.meta_end = frame_end(offset, header);
    member.meta_chain = header.header_hash;
  }

  void read_index(Member& member) {
    const std::uint64_t end_offset = member.size_bytes - kEndFrameBytes;
    if (member.index_offset == 0) {
      fail_input("{}: the member at byte {} has no index; rewrite it with kvcat", input.name(),
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

IndexedFile::IndexedFile(const std::string& path) : state_(std::make_unique<State>(path)) {}
IndexedFile::~IndexedFile() = default;

std::size_t IndexedFile::members() const { return state_->members.size(); }
const Meta& IndexedFile::meta(std::size_t member) const { return state_->members.at(member).meta; }
const std::vector<format::IndexEntry>& IndexedFile::index(std::size_t member) const {
  return state_->members.at(member).index;
}

std::vector<std::int32_t> IndexedFile::tokens(std::size_t index) const {
  State& state = *state_;
  const Member& member = state.members.at(index);
  std::uint64_t offset = member.meta_end, chain = member.meta_chain;
  while (true) {
    const FrameHeader header = state.frame_header(member, offset, chain);
    if (header.type == FrameType::kTokens) {
      const ByteView bytes = state.payload(member, offset, header);
      std::vector<std::int32_t> tokens(static_cast<std::size_t>(member.meta.token_count));
      if (header.flags != 0 || bytes.size() != tokens.size() * sizeof(std::int32_t)) {
        state.refuse(member.begin + offset, "TOKN frame: wrong size or flags");
      }
      if (!bytes.empty()) std::memcpy(tokens.data(), bytes.data(), bytes.size());
      if (std::any_of(tokens.begin(), tokens.end(), [](std::int32_t id) { return id < 0; })) {
        state.refuse(member.begin + offset, "TOKN frame: an id is over 2^31-1");
      }
      return tokens;
    }
    if (header.flags != format::kOptional) return {};
    chain = header.header_hash;
    offset = State::frame_end(offset, header);
  }
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

std::uint64_t IndexedFile::touched_bytes() const {
  return std::min<std::uint64_t>(state_->touched_page_count * state_->page_bytes,
                                 state_->mapping.bytes().size());
}

}  // namespace kv
