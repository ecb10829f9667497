#include "planes.hh"

#define ZSTD_STATIC_LINKING_ONLY  // ZSTD_c_literalCompressionMode
#include <zstd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>

namespace kv {
namespace {

using std::uint8_t;

// u32 count of channels (0: no bases), one base byte a channel, then one plane after the other,
// top first: u32 size with kStored, and the bytes.
constexpr std::uint32_t kStored = 1u << 31;

template <typename T>
T rotated_left(T bits) {
  return sizeof(T) == 1 ? bits : std::rotl(bits, 1);
}
template <typename T>
T rotated_right(T bits) {
  return sizeof(T) == 1 ? bits : std::rotr(bits, 1);
}

template <typename F>
void with_element(std::size_t size_bytes, F&& body) {
  if (size_bytes == 4) return body(std::uint32_t{});
  if (size_bytes == 2) return body(std::uint16_t{});
  body(uint8_t{});
}

// zstd finds no matches in exponents; it is here for its Huffman coder, so it is kept from looking.
struct Compressor {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  Compressor() {
    if (!context) throw std::bad_alloc();
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, -20);
    ZSTD_CCtx_setParameter(context, ZSTD_c_literalCompressionMode, ZSTD_ps_enable);
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 0);
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 1);
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
  const std::size_t bound = ZSTD_compressBound(plane.size());
  out.resize(head + sizeof(std::uint32_t) + bound);
  std::byte* to = out.data() + head + sizeof(std::uint32_t);
  std::size_t size = ZSTD_compress2(compressor.context, to, bound, plane.data(), plane.size());
  std::uint32_t field = static_cast<std::uint32_t>(size);
  if (ZSTD_isError(size) || size >= plane.size()) {
    std::copy_n(reinterpret_cast<const std::byte*>(plane.data()), plane.size(), to);
    size = plane.size();
    field = static_cast<std::uint32_t>(size) | kStored;
  }
  std::memcpy(out.data() + head, &field, sizeof(field));
  out.resize(head + sizeof(field) + size);
}

// The commonest top byte of each channel.
std::vector<uint8_t> bases_of(std::span<const uint8_t> plane, std::size_t channels) {
  std::vector<std::uint32_t> counts(256 * channels, 0);
  for (std::size_t i = 0; i < plane.size(); i += channels) {
    for (std::size_t c = 0; c < channels; ++c) ++counts[256 * c + plane[i + c]];
  }
  std::vector<uint8_t> bases(channels);
  for (std::size_t c = 0; c < channels; ++c) {
    const auto begin = counts.begin() + static_cast<std::ptrdiff_t>(256 * c);
    bases[c] = static_cast<uint8_t>(std::max_element(begin, begin + 256) - begin);
  }
  return bases;
}

bool has_exponent(DType dtype) { return dtype != DType::kI8; }

}  // namespace

Bytes PlanesCodec::encode(const format::TileHeader& tile, const TensorView& raw) const {
  const std::size_t width = dtype_size_bytes(raw.dtype);
  const std::size_t count = raw.bytes.size() / width;
  const std::size_t channels =
      has_exponent(tile.dtype) && count > 0 ? static_cast<std::size_t>(raw.row_values()) : 0;
  std::vector<uint8_t> planes(raw.bytes.size());
  with_element(width, [&]<typename T>(T) {
    for (std::size_t i = 0; i < count; ++i) {
      T bits;
      std::memcpy(&bits, raw.bytes.data() + i * sizeof(T), sizeof(T));
      bits = rotated_left(bits);
      for (std::size_t p = 0; p < sizeof(T); ++p) {
        planes[p * count + i] = static_cast<uint8_t>(bits >> (8 * (sizeof(T) - 1 - p)));
      }
    }
  });
  const std::span<uint8_t> top = std::span(planes).first(count);
  const std::vector<uint8_t> bases = bases_of(top, std::max<std::size_t>(channels, 1));
  ByteWriter head;
  head.put(static_cast<std::uint32_t>(channels));
  if (channels > 0) {
    head.put_bytes(std::as_bytes(std::span(bases)));
    for (std::size_t i = 0; i < count; i += channels) {
      for (std::size_t c = 0; c < channels; ++c) {
        top[i + c] = static_cast<uint8_t>(top[i + c] - bases[c]);
      }
    }
  }
  Bytes out = head.take();
  for (std::size_t p = 0; p < width; ++p) {
    append_plane(out, std::span(planes).subspan(p * count, count));
  }
  return out;
}

void PlanesCodec::decode(const format::TileHeader& tile, ByteView coded, const std::string& place,
                         std::span<std::byte> raw) const {
  thread_local Decompressor decompressor;
  const std::size_t width = dtype_size_bytes(tile.dtype);
  const std::size_t count = raw.size() / width;
  ByteReader reader(coded, place);
  const auto channels = static_cast<std::size_t>(reader.get<std::uint32_t>());
  if (channels > 0 && (count % channels != 0 || count == 0)) {
    fail_input("{}: {} channels do not fit {} values", place, channels, count);
  }
  const ByteView bases = reader.take(channels);
  std::vector<uint8_t> planes(raw.size());
  for (std::size_t p = 0; p < width; ++p) {
    const auto field = reader.get<std::uint32_t>();
    const ByteView bytes = reader.take(field & ~kStored);
    uint8_t* plane = planes.data() + p * count;
    if (field & kStored) {
      if (bytes.size() != count) fail_input("{}: plane {} has the wrong size", place, p);
      if (count > 0) std::memcpy(plane, bytes.data(), count);
      continue;
    }
    const std::size_t size =
        ZSTD_decompressDCtx(decompressor.context, plane, count, bytes.data(), bytes.size());
    if (ZSTD_isError(size) || size != count) fail_input("{}: plane {} does not decode", place, p);
  }
  if (reader.remaining() != 0) fail_input("{}: {} bytes too many", place, reader.remaining());
  for (std::size_t i = 0; channels > 0 && i < count; i += channels) {
    for (std::size_t c = 0; c < channels; ++c) {
      planes[i + c] = static_cast<uint8_t>(planes[i + c] + std::to_integer<uint8_t>(bases[c]));
    }
  }
  with_element(width, [&]<typename T>(T) {
    for (std::size_t i = 0; i < count; ++i) {
      T bits = 0;
      for (std::size_t p = 0; p < sizeof(T); ++p) {
        bits = static_cast<T>(bits | static_cast<T>(planes[p * count + i])
                                         << (8 * (sizeof(T) - 1 - p)));
      }
      bits = rotated_right(bits);
      std::memcpy(raw.data() + i * sizeof(T), &bits, sizeof(T));
    }
  });
}

}  // namespace kv
