#pragma once
// What the lossy codecs of kv(5) from "q8_0" on have in common: a head, keys that may be rotated
// before they are coded, values as f32, a way out for what they cannot code. Private to the folder.

#include "kv/codec/codec.hh"

#include <vector>

namespace kv {

// First in the data of a tile; what the parameters say is the codec's business.
struct RowHead {
  std::uint8_t flags = 0;  // kRotated; all other bits are zero
  std::uint8_t a = 0, b = 0, c = 0;
  std::uint32_t d = 0;
};
static_assert(sizeof(RowHead) == 8);
inline constexpr std::uint8_t kRotated = 1;  // a u64 follows: the position of the first token

// A tile as f32 [tokens][channels].
struct Rows {
  const Meta& meta;
  const format::TileHeader& tile;
  const std::string& place;  // for messages of a decoder
  std::int64_t tokens = 0, channels = 0;
  std::span<float> values;
  // Rows at the end that are kept as they were: set by a decoder, or the tile to take them from.
  ByteView exact;

  std::span<float> row(std::int64_t token) const {
    return values.subspan(static_cast<std::size_t>(token * channels),
                          static_cast<std::size_t>(channels));
  }
};

class RowCodec : public Codec {
 public:
  explicit RowCodec(std::string description, bool rope = false)
      : description_(std::move(description)), rope_(rope) {
    if (rope) description_ += " rope";
  }
  std::string_view name() const final { return description_; }
  bool lossless() const final { return false; }
  // These need META: encode_in() and decode_in(). std::logic_error.
  Bytes encode(const format::TileHeader& tile, const TensorView& raw) const final;
  void decode(const format::TileHeader& tile, ByteView coded, const std::string& place,
              std::span<std::byte> raw) const final;
  // E, int8, and values that are not finite or too large for the codec come out as `planes`.
  Coded encode_in(const Meta& meta, const format::TileHeader& tile,
                  const TensorView& raw) const final;
  // Values are held within the finite range of the tile's dtype.
  void decode_in(const Meta& meta, const format::TileHeader& tile, ByteView coded,
                 const std::string& place, std::span<std::byte> raw) const final;

 protected:
  // Appends the tile behind its head and fills the head's parameters; false: it cannot be coded.
  virtual bool encode_rows(const Rows& rows, RowHead& head, ByteWriter& out) const = 0;
  // Fills the values. Nothing may be left in `in`. Throws kInput.
  virtual void decode_rows(Rows& rows, const RowHead& head, ByteReader& in) const = 0;

 private:
  std::string description_;
  bool rope_;
};

// What decoded values are held within, either side, before they are rounded to `dtype`.
float largest_finite(DType dtype);
// Scales are f16. The nearest that is not below (above) `value`; infinite beyond f16.
std::uint16_t f16_not_below(float value);
std::uint16_t f16_not_above(float value);
constexpr bool f16_finite(std::uint16_t bits) { return (bits & 0x7C00u) != 0x7C00u; }

}  // namespace kv
