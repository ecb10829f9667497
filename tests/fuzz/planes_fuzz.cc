// The data of a `planes` tile from anywhere: values or a clear refusal, never outside the tile.
#include "kv/codec/codec.hh"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  kv::format::TileHeader tile;
  tile.kind = kv::format::Kind::kK;
  tile.dtype = static_cast<kv::DType>(1 + data[0] % 6);
  tile.codec = kv::format::kPlanes;
  kv::Bytes raw(std::size_t{data[1]} * kv::dtype_size_bytes(tile.dtype));
  try {
    kv::codec_by_id(tile.codec, "fuzz")
        .decode(tile, std::as_bytes(std::span(data + 2, size - 2)), "fuzz", raw);
  } catch (const kv::Error&) {
  }
  return 0;
}
