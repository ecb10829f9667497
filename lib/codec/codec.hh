#pragma once
// Codecs turn a raw tile into a coded one and back. A decoder is found by the number in the tile
// header and needs no options; encoders are made by name, with options.

#include "kv/container/meta.hh"
#include "kv/container/reader.hh"

#include <memory>
#include <optional>
#include <string>

namespace kv {

// A tile's data and the codec it is in.
struct Coded {
  std::uint16_t codec = format::kRaw;
  Bytes data;
};

class Codec {
 public:
  virtual ~Codec() = default;
  virtual std::uint16_t id() const = 0;       // TileHeader::codec
  virtual std::string_view name() const = 0;  // Meta::codec: an encoder's with its options
  virtual bool lossless() const = 0;
  // `raw` has the tile's shape in the member's dtype. Same input, same bytes out.
  virtual Bytes encode(const format::TileHeader& tile, const TensorView& raw) const = 0;
  // Fills `raw`, whose size the caller took from the member's geometry. Throws kInput (with
  // `place`) when `coded` is not exactly a coding of that many bytes.
  virtual void decode(const format::TileHeader& tile, ByteView coded, const std::string& place,
                      std::span<std::byte> raw) const = 0;
  // The same for codecs that ask more of the member than a tile's shape: rotation, positions,
  // layers. What cannot be coded (values that are not finite, say) comes out in another codec.
  // `tile.token_begin` counts in the member that `meta` describes.
  virtual Coded encode_in(const Meta& meta, const format::TileHeader& tile,
                          const TensorView& raw) const {
    static_cast<void>(meta);
    return {id(), encode(tile, raw)};
  }
  virtual void decode_in(const Meta& meta, const format::TileHeader& tile, ByteView coded,
                         const std::string& place, std::span<std::byte> raw) const {
    static_cast<void>(meta);
    decode(tile, coded, place, raw);
  }
};

// What the user asked of an encoder; unset: its default. See kvencode(1).
struct CodecOptions {
  std::optional<int> level;            // cachegen 1 to 9, cachegen-code 1 to 5
  std::optional<int> bits;             // kivi: 2, 3 or 4
  std::optional<int> group;            // kivi: 8 to 128 values share a scale
  std::optional<std::int64_t> chunk;   // cachegen-code: 1 to 2^16 tokens share tables
  std::optional<std::string> tables;   // cachegen-code: "shipped" or "compact"
  std::optional<std::string> profile;  // cachegen: a file
  bool rope = false;                   // code keys as the rotation leaves them
};

// Throws kInput (with `place`) for a number that this version does not know.
const Codec& codec_by_id(std::uint16_t id, const std::string& place);
// "raw", "planes": those without options. Throws kUsage.
const Codec& codec_by_name(std::string_view name);
// Throws kUsage for an unknown name and for options that the codec has not, or not so.
std::unique_ptr<Codec> make_encoder(std::string_view name, const CodecOptions& options);

// The tile's elements, decoded into `scratch` unless it is raw already.
TensorView decoded_tile(const Meta& meta, const Tile& tile, const std::string& place,
                        Bytes& scratch);
// The elements of a tile from its data and those of its refinements.
Bytes decoded_qualities(const Meta& meta, const format::TileHeader& tile,
                        std::span<const ByteView> qualities, const std::string& place);

}  // namespace kv
