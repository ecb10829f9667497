#pragma once
// The codec `ecsq`, number 3: entropy-coded scalar quantisation of decorrelated channels, for any
// model. Private to the folder.

#include "ecsq_tile.hh"
#include "kv/codec/codec.hh"
#include "kv/codec/transcode.hh"

#include <map>

namespace kv {

class EcsqCodec final : public Codec {
 public:
  EcsqCodec() = default;  // decodes
  // Encodes a member's tiles: `importance` is its IMPT, or empty.
  EcsqCodec(const Meta& meta, const EcsqOptions& options, const Importance& importance);

  std::uint16_t id() const override { return format::kEcsq; }
  std::string_view name() const override { return name_; }
  bool lossless() const override { return false; }
  // These need META: encode_in() and decode_in(). std::logic_error.
  Bytes encode(const format::TileHeader& tile, const TensorView& raw) const override;
  void decode(const format::TileHeader& tile, ByteView coded, const std::string& place,
              std::span<std::byte> raw) const override;
  // The tile and its refinements, in the order of the format.
  std::vector<Coded> encode_qualities(const Meta& meta, const format::TileHeader& tile,
                                      const TensorView& raw) const;
  // `qualities`: a tile's data and those of its refinements. Throws kInput.
  static void decode_qualities(const Meta& meta, const format::TileHeader& tile,
                               std::span<const ByteView> qualities, const std::string& place,
                               std::span<std::byte> raw);
  // E, int8, and what is too large or has scales too far apart come out as `planes`.
  Coded encode_in(const Meta& meta, const format::TileHeader& tile,
                  const TensorView& raw) const override;
  void decode_in(const Meta& meta, const format::TileHeader& tile, ByteView coded,
                 const std::string& place, std::span<std::byte> raw) const override;

 private:
  std::string name_ = "ecsq";
  int refinements_ = 0;
  double key_step_ = 0, value_step_ = 0;
  std::map<std::pair<std::uint32_t, format::Kind>, std::vector<std::int8_t>> steps_;
};

}  // namespace kv
