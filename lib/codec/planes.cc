#include "planes.hh"

#include "channel_shift.hh"
#include "zstd_bytes.hh"

#include <array>
#include <cstring>

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

void append_plane(Bytes& out, std::span<const uint8_t> plane) {
  const std::size_t head = out.size(), first = head + sizeof(std::uint32_t);
  out.resize(first);
  append_zstd(plane, out);
  auto field = static_cast<std::uint32_t>(out.size() - first);
  // A few percent less would cost the decoder half of its speed.
  if (field > plane.size() - plane.size() / 16) {
    const ByteView bytes = std::as_bytes(plane);
    out.resize(first);
    out.insert(out.end(), bytes.begin(), bytes.end());
    field = static_cast<std::uint32_t>(plane.size()) | kStored;
  }
  std::memcpy(out.data() + head, &field, sizeof(field));
}

// The next plane's `count` bytes, in place or decoded into `scratch`.
const uint8_t* take_plane(ByteReader& reader, std::size_t count, const std::string& place,
                          std::size_t number, std::vector<uint8_t>& scratch) {
  const auto field = reader.get<std::uint32_t>();
  const ByteView bytes = reader.take(field & ~kStored);
  if (field & kStored) {
    if (bytes.size() != count) {
      fail_input("{}: plane {} has {} bytes instead of {}", place, number, bytes.size(), count);
    }
    return reinterpret_cast<const uint8_t*>(bytes.data());
  }
  scratch.resize(count);
  if (!read_zstd(bytes, scratch)) {
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
