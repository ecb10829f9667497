#include "kv/container/writer.hh"

#include "kv/base/hash.hh"
#include "kv/container/meta_check.hh"
#include "kv/container/tile_order.hh"

#include <algorithm>
#include <optional>
#include <stdexcept>

namespace kv {

using format::FrameHeader;
using format::FrameType;

namespace {

[[noreturn]] void misuse(const std::string& cause) { throw std::logic_error("Writer: " + cause); }

template <typename T>
ByteView bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

}  // namespace

struct Writer::State {
  Output& output;
  Meta meta;
  std::optional<TileOrder> order;  // of `meta`; has a value inside a member
  std::vector<format::IndexEntry> index;
  StreamHash hash;
  std::uint64_t offset = 0;  // from the member's start
  std::uint64_t frames = 0;
  std::uint64_t chain = 0;        // header_hash of the last frame
  std::size_t padding_bytes = 0;  // owed to the last frame; goes out with the next header

  explicit State(Output& to) : output(to) {}

  // `small` is at most 32 bytes and goes out with the header, `large` from where it lies.
  FrameHeader write_frame(FrameType type, std::uint32_t flags, ByteView small, ByteView large) {
    FrameHeader header;
    header.type = type;
    header.flags = flags;
    header.size_bytes = small.size() + std::uint64_t{large.size()};
    if (header.size_bytes > format::kMaxFrameBytes) misuse("frame over the limit");
    if (++frames > format::kMaxFrames) misuse("too many frames in a member");
    hash.reset();
    hash.add(small);
    hash.add(large);
    header.payload_hash = hash.value();
    header.header_hash = xxh3_64(bytes_of(header).first(offsetof(FrameHeader, header_hash)), chain);
    chain = header.header_hash;

    ByteWriter head;
    head.put_zeros(padding_bytes);
    head.put(header);
    head.put_bytes(small);
    output.write(head.bytes(), large);
    padding_bytes = static_cast<std::size_t>(-header.size_bytes % format::kAlignment);
    offset += sizeof(header) + header.size_bytes + padding_bytes;
    return header;
  }

  void require_member() const {
    if (!order) misuse("no member was begun");
  }
};

Writer::Writer(Output& output) : state_(std::make_unique<State>(output)) {}
Writer::~Writer() = default;

void Writer::begin_member(const Meta& meta, std::span<const std::int32_t> tokens,
                          std::span<const std::uint8_t> importance) {
  State& state = *state_;
  if (state.order) misuse("the member before was not ended");
  if (const std::string problem = problem_of(meta); !problem.empty()) misuse("META: " + problem);
  if (!tokens.empty() && static_cast<std::int64_t>(tokens.size()) != meta.token_count) {
    misuse("tokens and token_count differ");
  }
  if (std::any_of(tokens.begin(), tokens.end(), [](std::int32_t id) { return id < 0; })) {
    misuse("negative token id");
  }
  if (!importance.empty() && importance.size() != importance_size_bytes(meta)) {
    misuse("importance is not of the member's size");
  }
  if (const std::string problem = problem_of(importance); !problem.empty()) misuse(problem);
  // What is wrong from here on comes from the user's own fields, so it is no misuse.
  const std::string json = meta_to_json(meta);
  if (json.size() > format::kMaxMetaBytes) {
    fail_input("{}: META of {} bytes, over the limit of {}; shorten the document's fields",
               state.output.name(), json.size(), format::kMaxMetaBytes);
  }
  if (importance.size() > format::kMaxFrameBytes) {
    fail_input("{}: importance of {} bytes, over the limit of {}; leave it out",
               state.output.name(), importance.size(), format::kMaxFrameBytes);
  }
  state.meta = meta_from_json(json, state.output.name());
  state.order.emplace(state.meta);
  state.index.clear();
  state.frames = 0;
  format::MemberHeader member;
  if (!importance.empty()) member.minor = format::kMinorImportance;
  state.output.write(bytes_of(member));
  state.offset = sizeof(member);
  state.chain = xxh3_64(bytes_of(member));
  state.write_frame(FrameType::kMeta, 0, {}, as_bytes(json));
  if (!tokens.empty()) state.write_frame(FrameType::kTokens, 0, {}, std::as_bytes(tokens));
  if (!importance.empty()) {
    state.write_frame(FrameType::kImportance, format::kOptional, {}, std::as_bytes(importance));
  }
}

void Writer::write_tile(const format::TileHeader& tile, ByteView data) {
  State& state = *state_;
  state.require_member();
  if (const std::string problem = state.order->accept(tile, data.size()); !problem.empty()) {
    misuse(problem);
  }
  format::IndexEntry entry;
  entry.offset = state.offset;
  entry.tile = tile;
  const FrameHeader header = state.write_frame(FrameType::kTensor, 0, bytes_of(tile), data);
  entry.size_bytes = header.size_bytes;
  entry.payload_hash = header.payload_hash;
  state.index.push_back(entry);
}

void Writer::write_raw(format::Kind kind, std::uint32_t layer, const TensorView& tensor) {
  state_->require_member();
  if (tensor.shape[0] != state_->meta.token_count) misuse("tensor and token_count differ");
  const std::int64_t most = std::clamp<std::int64_t>(
      static_cast<std::int64_t>(kTileBytes / std::max<std::size_t>(1, tensor.row_bytes())), 1,
      kTileTokens);
  for (std::int64_t begin = 0; begin < tensor.shape[0]; begin += most) {
    const std::int64_t count = std::min(most, tensor.shape[0] - begin);
    format::TileHeader tile;
    tile.kind = kind;
    tile.dtype = tensor.dtype;
    tile.codec = format::kRaw;
    tile.layer = layer;
    tile.token_begin = static_cast<std::uint64_t>(begin);
    tile.token_count = static_cast<std::uint32_t>(count);
    write_tile(tile, tensor.tokens(begin, count).bytes);
  }
}

void Writer::write_optional(std::array<char, 4> type, ByteView payload) {
  state_->require_member();
  const auto number = std::bit_cast<FrameType>(type);
  for (const FrameType known : {FrameType::kMeta, FrameType::kTokens, FrameType::kImportance,
                                FrameType::kTensor, FrameType::kIndex, FrameType::kEnd}) {
    if (number == known) misuse("the type of an optional frame is the format's own");
  }
  state_->write_frame(number, format::kOptional, {}, payload);
}

void Writer::end_member() {
  State& state = *state_;
  state.require_member();
  if (const std::string missing = state.order->missing(); !missing.empty()) misuse(missing);
  format::EndPayload end;
  end.index_offset = state.offset;
  state.write_frame(FrameType::kIndex, 0, {}, std::as_bytes(std::span(state.index)));
  end.frame_count = state.frames + 1;
  end.member_size_bytes = state.offset + sizeof(FrameHeader) + sizeof(end);
  state.write_frame(FrameType::kEnd, 0, bytes_of(end), {});
  state.order.reset();
}

}  // namespace kv
