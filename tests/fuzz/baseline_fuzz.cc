// The data of a lossy tile from anywhere: values or a clear refusal, never outside the tile; and
// what decodes can be coded again. Six bytes first: codec, dtype, tokens, values of a key, values
// of a value, layer and kind; with 255 for the codec the rest is a profile.
#include "../unit/cachegen_samples.hh"
#include "../unit/lossy_samples.hh"
#include "kv/codec/cachegen.hh"

#include <cstdlib>

namespace {

using namespace kv;

constexpr std::uint16_t kCodecs[] = {format::kQ8_0, format::kQ4_0, format::kKivi, format::kCacheGen,
                                     format::kCacheGenCode};

void read_profile(ByteView bytes) {
  try {
    const CacheGenProfile profile = CacheGenProfile::parse(bytes, "fuzz");
    const Bytes again = profile.bytes();
    if (!std::equal(again.begin(), again.end(), bytes.begin(), bytes.end())) std::abort();
  } catch (const Error&) {
  }
}

// One of few, for each is kept.
std::shared_ptr<const CacheGenProfile> profile_of(const Meta& meta, bool rotated) {
  const auto profile =
      std::make_shared<const CacheGenProfile>(samples::plain_profile(meta, rotated));
  add_cachegen_profile(profile);
  return find_cachegen_profile(profile->hash(), "fuzz");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 6) return 0;
  const ByteView rest = std::as_bytes(std::span(data + 6, size - 6));
  if (data[0] == 255) {
    read_profile(rest);
    return 0;
  }
  constexpr DType dtypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3,
                              DType::kF8E5M2};
  format::TileHeader tile;
  tile.codec = kCodecs[data[0] % 5];
  const int widths = tile.codec == format::kCacheGen ? 2 : 64;
  const Meta meta = samples::lossy_meta(1 + data[2] % 64, dtypes[data[1] % 5], 1 + data[3] % widths,
                                        1 + data[4] % widths);
  tile.kind = data[5] & 4 ? format::Kind::kV : format::Kind::kK;
  tile.dtype = meta.dtype;
  tile.layer = data[5] % 3;
  tile.token_count = static_cast<std::uint32_t>(meta.token_count);
  TensorView view = meta.shape_of(tile);
  Bytes coded(rest.begin(), rest.end()), raw(tile.token_count * view.row_bytes()), again = raw;
  std::unique_ptr<Codec> encoder;
  if (tile.codec == format::kCacheGen && !coded.empty()) {
    const bool rotated = (coded[0] & std::byte{1}) != std::byte{0};
    const auto profile = profile_of(meta, rotated);
    encoder = std::make_unique<CacheGenCodec>(profile, 2);
    // What a fuzzer would not guess.
    const std::uint64_t hash = profile->hash();
    const std::size_t at = rotated ? 16 : 8;
    if (coded.size() >= at + 8) std::memcpy(coded.data() + at, &hash, sizeof(hash));
  } else if (tile.codec == format::kCacheGenCode) {
    encoder = make_encoder("cachegen-code", {.chunk = 20, .tables = "compact"});
  } else if (tile.codec != format::kCacheGen) {
    encoder = make_encoder(tile.codec == format::kKivi   ? "kivi"
                           : tile.codec == format::kQ8_0 ? "q8_0"
                                                         : "q4_0",
                           {.rope = true});
  }
  try {
    codec_by_id(tile.codec, "fuzz").decode_in(meta, tile, coded, "fuzz", raw);
  } catch (const Error&) {
    return 0;
  }
  if (!encoder) return 0;
  view.bytes = raw;
  const Coded once = encoder->encode_in(meta, tile, view);
  codec_by_id(once.codec, "again").decode_in(meta, tile, once.data, "again", again);
  return 0;
}
