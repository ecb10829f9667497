// The data of a `planes` tile from anywhere: values or a clear refusal, never outside the tile; and
// what decodes can be coded again and comes back. Three bytes first: dtype, tokens, channels.
#include "kv/codec/codec.hh"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3 || data[1] == 0 || data[2] == 0) return 0;
  kv::format::TileHeader tile;
  tile.kind = kv::format::Kind::kK;
  tile.dtype = static_cast<kv::DType>(1 + data[0] % 6);
  tile.codec = kv::format::kPlanes;
  tile.token_count = data[1];
  kv::TensorView view{tile.dtype, {data[1], 1, data[2]}, {}};
  const kv::Codec& codec = kv::codec_by_id(tile.codec, "fuzz");
  kv::Bytes raw(data[1] * view.row_bytes()), again(raw.size());
  try {
    codec.decode(tile, std::as_bytes(std::span(data + 3, size - 3)), "fuzz", raw);
  } catch (const kv::Error&) {
    return 0;
  }
  view.bytes = raw;
  codec.decode(tile, codec.encode(tile, view), "again", again);
  if (again != raw) std::abort();
  return 0;
}
