#pragma once
// Codecs turn a raw tile into a coded one and back. A codec is found by its number in the tile
// header; encoders are found by level or name.

#include "kv/container/meta.hh"
#include "kv/container/reader.hh"

#include <memory>
#include <string>

namespace kv {

class Codec {
 public:
  virtual ~Codec() = default;
  virtual std::uint16_t id() const = 0;       // TileHeader::codec
  virtual std::string_view name() const = 0;  // Meta::codec
  virtual bool lossless() const = 0;
  // `raw` has the tile's shape in the member's dtype. Same input, same bytes out.
  virtual Bytes encode(const format::TileHeader& tile, const TensorView& raw) const = 0;
  // Fills `raw`, whose size the caller took from the member's geometry. Throws kInput (with
  // `place`) when `coded` is not exactly a coding of that many bytes.
  virtual void decode(const format::TileHeader& tile, ByteView coded, const std::string& place,
                      std::span<std::byte> raw) const = 0;
};

// Throws kInput (with `place`) for a number that this version does not know.
const Codec& codec_by_id(std::uint16_t id, const std::string& place);
// "raw", "planes". Throws kUsage.
const Codec& codec_by_name(std::string_view name);

// The tile's elements, decoded into `scratch` unless it is raw already.
TensorView decoded_tile(const Meta& meta, const Tile& tile, const std::string& place,
                        Bytes& scratch);

}  // namespace kv
