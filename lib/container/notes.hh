#pragma once
// Names and meanings of the fields, for kvinfo --hex.

#include "kv/container/reader.hh"

#include <functional>
#include <string_view>

namespace kv {

// Reports adjacent fields of a stream.
class Notes {
 public:
  using Report = std::function<void(const FieldNote&)>;
  explicit Notes(const Report& report) : report_(report) {}
  // False: nobody listens, and nothing need be formatted.
  explicit operator bool() const { return static_cast<bool>(report_); }

  void member_header(std::uint64_t offset, const format::MemberHeader& header) const;
  void frame_header(std::uint64_t offset, const format::FrameHeader& header) const;
  // `meta`: the member's, null until it is known.
  void payload(std::uint64_t offset, format::FrameType type, ByteView payload,
               const Meta* meta) const;
  void data(std::uint64_t offset, std::uint64_t size_bytes, std::string name,
            std::string value) const;

 private:
  void importance(std::uint64_t offset, ByteView payload, const Meta& meta) const;

  const Report& report_;
};

// "META", or the number where it is no text.
std::string type_text(format::FrameType type);
// "K of layer 3, tokens 0 to 255".
std::string tile_text(const format::TileHeader& tile);

}  // namespace kv
