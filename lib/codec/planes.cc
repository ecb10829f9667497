#include "planes.hh"

#include "channel_shift.hh"

#define ZSTD_STATIC_LINKING_ONLY  // ZSTD_c_literalCompressionMode
#include <zstd.h>

#include <array>
#include <cstring>
#include <memory>
#include <new>

namespace kv {
namespace {

using std::uint8_t;

// u32 count of channels (0: none is moved), u16 shift a channel, then one plane after the other,
// top first: u32 size with kStored, and the bytes.
constexpr std::uint32_t kStored = 1u << 31;
constexpr std::int64_t kFewTokens = 32;  // shifts would cost more than they bring

template <typename F>
void with_element(std::size_t size_bytes, F&& body) {
  if (size_bytes == 4) return body(std::uint32_t{});
  if (size_bytes == 2) return body(std::uint16_t{});
  body(uint8_t{});
}

// zstd is here for its Huffman coder. Looking for matches, which exponents do not have, makes it
// slower and the result larger (2.70 instead of 2.42 bits a byte), so it hardly looks.
struct Compressor {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  Compressor() {
    if (!context) throw std::bad_alloc();
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, ZSTD_minCLevel());
    ZSTD_CCtx_setParameter(context, ZSTD_c_literalCompressionMode, ZSTD_ps_enable);
  }
  ~Compressor() { ZSTD_freeCCtx(context); }
};

struct Decompressor {
  ZSTD_DCtx* context = ZSTD_createDCtx();
  Decompressor() {
    if (!context) throw std::bad_alloc();
  }
  ~Decompressor() { ZSTD_freeDCtx(context); }
};

void append_plane(Bytes& out, std::span<const uint8_t> plane) {
  thread_local Compressor compressor;
  const std::size_t head = out.size();
  out.resize(head + sizeof(std::uint32_t) + ZSTD_compressBound(plane.size()));
  std::byte* to = out.data() + head + sizeof(std::uint32_t);
  std::size_t size = ZSTD_compress2(compressor.context, to, ZSTD_compressBound(plane.size()),
                                    plane.data(), plane.size());
  std::uint32_t field = static_cast<std::uint32_t>(size);
  // A few percent less would cost the decoder half of its speed.
  if (ZSTD_isError(size) || size > plane.size() - plane.size() / 16) {
    if (!plane.empty()) std::memcpy(to, plane.data(), plane.size());
    size = plane.size();
    field = static_cast<std::uint32_t>(size) | kStored;
  }
  std::memcpy(out.data() + head, &field, sizeof(field));
  out.resize(head + sizeof(field) + size);
}

// The next plane's `count` bytes, in place or decoded into `scratch`.
const uint8_t* take_plane(ByteReader& reader, std::size_t count, const std::string& place,
                          std::size_t number, std::vector<uint8_t>& scratch) {
  thread_local Decompressor decompressor;
  const auto field = reader.get<std::uint32_t>();
  const ByteView bytes = reader.take(field & ~kStored);
  if (field & kStored) {
    if (bytes.size() != count) {
      fail_input("{}: plane {} has {} bytes instead of {}", place, number, bytes.size(), count);
    }
    return reinterpret_cast<const uint8_t*>(bytes.data());
  }
  scratch.resize(count);
  const bool one_frame = ZSTD_findFrameCompressedSize(bytes.data(), bytes.size()) == bytes.size();
  const std::size_t size =
      ZSTD_decompressDCtx(decompressor.context, scratch.data(), count, bytes.data(), bytes.size());
  if (!one_frame || ZSTD_isError(size) || size != count) {
    fail_input("{}: plane {} is not one zstd frame of {} bytes", place, number, count);
  }
  return scratch.data();
}

template <typename T>
void split(ByteView raw, const ChannelMoves<T>& moves, uint8_t* planes) {
  const std::size_t count = raw.size() / sizeof(T), channels = moves.add.size();
  const T *flip = moves.flip.data(), *add = moves.add.data();
  for (std::size_t i = 0; i < count; i += channels) {
    for (std::size_t c = 0; c < channels; ++c) {
      T bits;
      std::memcpy(&bits, raw.data() + (i + c) * sizeof(T), sizeof(T));
      bits = static_cast<T>((bits ^ flip[c]) + add[c]);
      for (std::size_t p = 0; p < sizeof(T); ++p) {
        planes[p * count + i + c] = static_cast<uint8_t>(bits >> (8 * (sizeof(T) - 1 - p)));
      }
    }
  }
}

template <typename T>
void merge(const std::array<const uint8_t*, 4>& planes, const ChannelMoves<T>& moves,
           std::span<std::byte> raw) {
  const std::size_t count = raw.size() / sizeof(T), channels = moves.add.size();
  const T *flip = moves.flip.data(), *add = moves.add.data();
  for (std::size_t i = 0; i < count; i += channels) {
    for (std::size_t c = 0; c < channels; ++c) {
      T bits = 0;
      for (std::size_t p = 0; p < sizeof(T); ++p) {
        const T byte = planes[p][i + c];
        bits = static_cast<T>(bits | static_cast<T>(byte << (8 * (sizeof(T) - 1 - p))));
      }
      bits = static_cast<T>((bits - add[c]) ^ flip[c]);
      std::memcpy(raw.data() + (i + c) * sizeof(T), &bits, sizeof(T));
    }
  }
}

}  // namespace

Bytes PlanesCodec::encode(const format::TileHeader&, const TensorView& raw) const {
  const std::size_t width = dtype_size_bytes(raw.dtype);
  const std::size_t count = raw.bytes.size() / width;
  const bool few = raw.shape[0] < kFewTokens;
  const auto channels = static_cast<std::size_t>(raw.row_values());
  const std::vector<std::uint16_t> shifts =
      few ? std::vector<std::uint16_t>(channels) : channel_shifts(raw);
  thread_local std::vector<uint8_t> planes;
  planes.resize(raw.bytes.size());
  with_element(width,
               [&]<typename T>(T) { split<T>(raw.bytes, ChannelMoves<T>(shifts), planes.data()); });
  ByteWriter head;
  head.put(static_cast<std::uint32_t>(few ? 0 : channels));
  if (!few) head.put_bytes(std::as_bytes(std::span(shifts)));
  Bytes out = head.take();
  for (std::size_t p = 0; p < width; ++p) {
    append_plane(out, std::span(planes).subspan(p * count, count));
  }
  return out;
}

void PlanesCodec::decode(const format::TileHeader& tile, ByteView coded, const std::string& place,
                         std::span<std::byte> raw) const {
  const std::size_t width = dtype_size_bytes(tile.dtype);
  const std::size_t count = raw.size() / width;
  if (tile.quality != 0) fail_input("{}: codec planes has no quality {}", place, tile.quality);
  if (tile.token_count == 0 || count == 0 || count % tile.token_count != 0) {
    fail_input("{}: {} values do not make {} rows", place, count, tile.token_count);
  }
  std::vector<std::uint16_t> shifts(count / tile.token_count);
  ByteReader reader(coded, place);
  const std::size_t channels = reader.get<std::uint32_t>();
  if (channels != 0 && channels != shifts.size()) {
    fail_input("{}: {} channels instead of {}", place, channels, shifts.size());
  }
  for (std::size_t c = 0; c < channels; ++c) {
    shifts[c] = reader.get<std::uint16_t>();
    if (shifts[c] & ~(kShiftBits | kInvertSign)) {
      fail_input("{}: reserved bits of channel {} are set", place, c);
    }
  }
  thread_local std::array<std::vector<uint8_t>, 4> scratch;
  std::array<const uint8_t*, 4> planes{};
  for (std::size_t p = 0; p < width; ++p) {
    planes[p] = take_plane(reader, count, place, p, scratch[p]);
  }
  if (reader.remaining() != 0) fail_input("{}: {} bytes too many", place, reader.remaining());
  with_element(width, [&]<typename T>(T) { merge<T>(planes, ChannelMoves<T>(shifts), raw); });
}

}  // namespace kv
