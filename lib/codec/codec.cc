#include "kv/codec/codec.hh"

#include "cachegen.hh"
#include "cachegen_code.hh"
#include "ecsq.hh"
#include "ggml_blocks.hh"
#include "kivi.hh"
#include "planes.hh"
#include "raw_codec.hh"

#include <array>

namespace kv {
namespace {

const std::array<const Codec*, 8>& all_codecs() {
  static const RawCodec raw;
  static const PlanesCodec planes;
  static const EcsqCodec ecsq;
  static const Q8Codec q8;
  static const Q4Codec q4;
  static const KiviCodec kivi;
  static const CacheGenCodec cachegen;
  static const CacheGenCodeCodec cachegen_code;
  static const std::array<const Codec*, 8> all = {&raw, &planes, &ecsq,     &q8,
                                                  &q4,  &kivi,   &cachegen, &cachegen_code};
  return all;
}

// zstd's most: a block of 128 KiB in 4 bytes.
constexpr std::uint64_t kMostRatio = 1u << 15;

// Memory is taken in proportion to what arrived.
std::size_t decoded_size(const TensorView& shape, std::uint64_t coded, const std::string& place) {
  const std::uint64_t size = static_cast<std::uint64_t>(shape.shape[0]) * shape.row_bytes();
  if (size > format::kMaxFrameBytes - sizeof(format::TileHeader) || size / kMostRatio > coded) {
    fail_input("{}: {} bytes of data cannot hold {}", place, coded, size);
  }
  return static_cast<std::size_t>(size);
}

}  // namespace

const Codec& codec_by_id(std::uint16_t id, const std::string& place) {
  for (const Codec* codec : all_codecs()) {
    if (codec->id() == id) return *codec;
  }
  fail_input("{}: codec {} is not known to this version; use a newer kvtools", place, id);
}

const Codec& codec_by_name(std::string_view name) {
  for (const Codec* codec : all_codecs()) {
    if (codec->lossless() && codec->name() == name) return *codec;
  }
  fail_usage("codec '{}' is not known; give raw or planes", name);
}

TensorView decoded_tile(const Meta& meta, const Tile& tile, const std::string& place,
                        Bytes& scratch) {
  TensorView view = meta.shape_of(tile.header);
  if (tile.header.codec == format::kRaw) {
    view.bytes = tile.data;
    return view;
  }
  const std::string where = fmt::format("{}: byte {}: layer {} {}", place, tile.frame_offset,
                                        tile.header.layer, static_cast<char>(tile.header.kind));
  if (tile.header.codec == format::kThirds) {
    fail_input("{}: refines a tile that is not of codec {}", where, format::kEcsq);
  }
  const Codec& codec = codec_by_id(tile.header.codec, where);
  scratch.resize(decoded_size(view, tile.data.size(), where));
  codec.decode_in(meta, tile.header, tile.data, where, scratch);
  view.bytes = scratch;
  return view;
}

Bytes decoded_qualities(const Meta& meta, const format::TileHeader& tile,
                        std::span<const ByteView> qualities, const std::string& place) {
  Bytes raw(decoded_size(meta.shape_of(tile), qualities.front().size(), place));
  EcsqCodec::decode_qualities(meta, tile, qualities, place, raw);
  return raw;
}

}  // namespace kv
