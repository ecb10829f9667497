#include "kv/container/notes.hh"

#include "kv/container/meta_check.hh"

#include <algorithm>
#include <cctype>

namespace kv {
namespace {

using format::FrameType;

// Walks a struct field by field.
class Fields {
 public:
  Fields(const Notes& notes, std::uint64_t offset, std::string prefix)
      : notes_(notes), offset_(offset), prefix_(std::move(prefix)) {}

  template <typename T>
  void field(std::string_view name, const T& value, std::string text) {
    notes_.data(offset_, sizeof(value), fmt::format("{}.{}", prefix_, name), std::move(text));
    offset_ += sizeof(value);
  }
  template <typename T>
  void number(std::string_view name, const T& value) {
    field(name, value, fmt::format("{}", value));
  }
  void hash(std::string_view name, std::uint64_t value) {
    field(name, value, fmt::format("{:016x}", value));
  }
  std::uint64_t offset() const { return offset_; }

 private:
  const Notes& notes_;
  std::uint64_t offset_;
  std::string prefix_;
};

void tile_fields(Fields& fields, const format::TileHeader& tile) {
  fields.field("kind", tile.kind, kind_text(tile.kind));
  const auto dtype = static_cast<std::uint8_t>(tile.dtype);
  fields.field("dtype", tile.dtype,
               dtype_known(dtype) ? std::string(dtype_name(tile.dtype)) : fmt::to_string(dtype));
  fields.number("codec", tile.codec);
  fields.number("layer", tile.layer);
  fields.number("token_begin", tile.token_begin);
  fields.number("token_count", tile.token_count);
  fields.number("quality", tile.quality);
  fields.number("reserved0", tile.reserved0);
  fields.number("reserved1", tile.reserved1);
}

}  // namespace

std::string type_text(FrameType type) {
  std::string text(4, '\0');
  std::memcpy(text.data(), &type, text.size());
  for (const char c : text) {
    if (c < ' ' || c > '~') return fmt::format("0x{:08x}", static_cast<std::uint32_t>(type));
  }
  return text.substr(0, text.find_last_not_of(' ') + 1);
}

std::string tile_text(const format::TileHeader& tile) {
  return fmt::format("{} of layer {}, {} tokens from {}", kind_text(tile.kind), tile.layer,
                     tile.token_count, tile.token_begin);
}

void Notes::data(std::uint64_t offset, std::uint64_t size_bytes, std::string name,
                 std::string value) const {
  if (!report_ || size_bytes == 0) return;
  report_({offset, size_bytes, std::move(name), std::move(value)});
}

void Notes::member_header(std::uint64_t offset, const format::MemberHeader& header) const {
  if (!report_) return;
  Fields fields(*this, offset, "member");
  fields.field("magic", header.magic, "8b K V C cr lf 1a lf");
  fields.number("major", header.major);
  fields.number("minor", header.minor);
  fields.number("reserved", header.reserved);
}

void Notes::frame_header(std::uint64_t offset, const format::FrameHeader& header) const {
  if (!report_) return;
  Fields fields(*this, offset, "frame");
  fields.field("type", header.type, type_text(header.type));
  fields.number("flags", header.flags);
  fields.number("size_bytes", header.size_bytes);
  fields.hash("payload_hash", header.payload_hash);
  fields.hash("header_hash", header.header_hash);
}

void Notes::importance(std::uint64_t offset, ByteView payload, const Meta& meta) const {
  const auto count = static_cast<std::size_t>(meta.token_count);
  ByteView rest = payload;
  for (const auto& [layer, kind] : importance_rows(meta)) {
    if (count == 0 || rest.size() < count) break;
    const auto [least, greatest] = std::ranges::minmax(rest.first(count));
    const auto weight = [](std::byte byte) {
      return importance_weight(std::to_integer<std::uint8_t>(byte));
    };
    data(offset + payload.size() - rest.size(), count,
         fmt::format("importance.{}[{}]", kind_text(kind), layer),
         fmt::format("weights {:.2g} to {:.2g}", weight(least), weight(greatest)));
    rest = rest.subspan(count);
  }
  data(offset + payload.size() - rest.size(), rest.size(), "importance", "no whole row");
}

void Notes::payload(std::uint64_t offset, FrameType type, ByteView payload,
                    const Meta* meta) const {
  if (!report_) return;
  ByteReader reader(payload, "payload");
  if (type == FrameType::kTensor && payload.size() >= sizeof(format::TileHeader)) {
    const auto tile = reader.get<format::TileHeader>();
    Fields fields(*this, offset, "tile");
    tile_fields(fields, tile);
    data(fields.offset(), reader.remaining(), "data", tile_text(tile));
  } else if (type == FrameType::kIndex) {
    for (std::uint64_t i = 0; reader.remaining() >= sizeof(format::IndexEntry); ++i) {
      const auto entry = reader.get<format::IndexEntry>();
      Fields fields(*this, offset + i * sizeof(entry), fmt::format("index[{}]", i));
      fields.number("offset", entry.offset);
      fields.number("size_bytes", entry.size_bytes);
      fields.hash("payload_hash", entry.payload_hash);
      fields.number("reserved", entry.reserved);
      tile_fields(fields, entry.tile);
    }
    data(offset + reader.position(), reader.remaining(), "index", "no whole entry");
  } else if (type == FrameType::kEnd && payload.size() == sizeof(format::EndPayload)) {
    const auto end = reader.get<format::EndPayload>();
    Fields fields(*this, offset, "end");
    fields.number("frame_count", end.frame_count);
    fields.number("member_size_bytes", end.member_size_bytes);
    fields.number("index_offset", end.index_offset);
    fields.number("reserved", end.reserved);
  } else if (type == FrameType::kMeta) {
    data(offset, payload.size(), "meta", "JSON");
  } else if (type == FrameType::kTokens) {
    data(offset, payload.size(), "tokens", fmt::format("{} ids", payload.size() / 4));
  } else if (type == FrameType::kImportance && meta != nullptr) {
    importance(offset, payload, *meta);
  } else {
    data(offset, payload.size(), "payload", type_text(type));
  }
}

}  // namespace kv
