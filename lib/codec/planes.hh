#pragma once
// The lossless codec `planes`, number 1; its layout is in kv(5). Private to the folder.
//
// Byte i of all elements is plane i, the top byte first. Before the split every channel is moved:
// its sign is inverted if it is mostly negative, and a constant added that lays its commonest
// magnitudes into one top byte. Channels differ in scale far more than in shape, so one Huffman
// table then serves them all. What does not shrink is stored.

#include "kv/codec/codec.hh"

namespace kv {

class PlanesCodec final : public Codec {
 public:
  std::uint16_t id() const override { return format::kPlanes; }
  std::string_view name() const override { return "planes"; }
  bool lossless() const override { return true; }
  Bytes encode(const format::TileHeader& tile, const TensorView& raw) const override;
  void decode(const format::TileHeader& tile, ByteView coded, const std::string& place,
              std::span<std::byte> raw) const override;
};

}  // namespace kv
