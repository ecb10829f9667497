#include "row_codec.hh"

#include "kv/container/rope.hh"
#include "planes.hh"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace kv {
namespace {

bool all_finite(std::span<const float> values) {
  // 0 times what is not finite is NaN, and so is the sum.
  float sum = 0;
  for (const float value : values) sum += 0 * value;
  return sum == 0;
}

const LayerGeometry& geometry_of(const Meta& meta, std::uint32_t index) {
  for (const LayerMeta& layer : meta.layers) {
    if (layer.index == index) return layer.geometry;
  }
  throw std::logic_error("a tile of no layer");  // shape_of() found it
}

bool can_rotate(const Meta& meta, const format::TileHeader& tile) {
  return tile.kind == format::Kind::kK && geometry_of(meta, tile.layer).k_dim % 2 == 0;
}

std::vector<float>& scratch() {
  thread_local std::vector<float> values;
  return values;
}

}  // namespace

float largest_finite(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return 65504.0f;
    case DType::kBF16:
      return 0x1.FEp127f;
    default:
      return std::numeric_limits<float>::max();  // convert() holds fp8
  }
}

std::uint16_t f16_not_below(float value) {
  const std::uint16_t bits = f16_bits(value);
  if (f16_value(bits) >= value) return bits;
  return static_cast<std::uint16_t>(bits & 0x8000u ? bits - 1 : bits + 1);
}

std::uint16_t f16_not_above(float value) {
  return static_cast<std::uint16_t>(f16_not_below(-value) ^ 0x8000u);
}

Bytes RowCodec::encode(const format::TileHeader&, const TensorView&) const {
  throw std::logic_error("RowCodec: encode_in() has META");
}

void RowCodec::decode(const format::TileHeader&, ByteView, const std::string&,
                      std::span<std::byte>) const {
  throw std::logic_error("RowCodec: decode_in() has META");
}

Coded RowCodec::encode_in(const Meta& meta, const format::TileHeader& tile,
                          const TensorView& raw) const {
  static const PlanesCodec planes;
  const auto exactly = [&] { return Coded{planes.id(), planes.encode(tile, raw)}; };
  if (tile.kind == format::Kind::kE || raw.dtype == DType::kI8) return exactly();
  std::vector<float>& values = scratch();
  values.resize(static_cast<std::size_t>(raw.shape[0] * raw.row_values()));
  convert(raw.bytes, raw.dtype, std::as_writable_bytes(std::span(values)), DType::kF32);
  RowHead head;
  const std::uint64_t position = static_cast<std::uint64_t>(meta.first_position) + tile.token_begin;
  if (rope_ && !meta.rope_applied && can_rotate(meta, tile)) {
    head.flags = kRotated;
    const Rope& rope = geometry_of(meta, tile.layer).rope;
    rotate_keys(rope, position, raw.shape[1], raw.shape[2], values);
    if (rope.attention_factor == 0) return exactly();
  }
  if (!all_finite(values)) return exactly();
  ByteWriter body;
  static const std::string nowhere;
  const Rows rows = {meta, tile, nowhere, raw.shape[0], raw.row_values(), values, raw.bytes};
  if (!encode_rows(rows, head, body)) return exactly();
  ByteWriter out;
  out.put(head);
  if (head.flags & kRotated) out.put(position);
  out.put_bytes(body.bytes());
  return {id(), out.take()};
}

void RowCodec::decode_in(const Meta& meta, const format::TileHeader& tile, ByteView coded,
                         const std::string& place, std::span<std::byte> raw) const {
  const TensorView shape = meta.shape_of(tile);
  const auto count = static_cast<std::size_t>(shape.shape[0] * shape.row_values());
  if (tile.kind == format::Kind::kE || tile.dtype == DType::kI8) {
    fail_input("{}: codec {} is for K, V and L of floating-point numbers", place, id());
  }
  if (tile.quality != 0) fail_input("{}: codec {} has no quality {}", place, id(), tile.quality);
  if (raw.size() != count * dtype_size_bytes(tile.dtype)) {
    fail_input("{}: {} bytes do not hold {} values", place, raw.size(), count);
  }
  ByteReader in(coded, place);
  const auto head = in.get<RowHead>();
  if ((head.flags & ~kRotated) != 0) fail_input("{}: unknown flags {}", place, head.flags);
  const bool rotated = (head.flags & kRotated) != 0;
  if (rotated && !can_rotate(meta, tile)) fail_input("{}: rotated, but no key of pairs", place);
  const std::uint64_t position = rotated ? in.get<std::uint64_t>() : 0;
  std::vector<float>& values = scratch();
  values.resize(count);
  Rows rows = {meta, tile, place, shape.shape[0], shape.row_values(), values, {}};
  decode_rows(rows, head, in);
  if (in.remaining() != 0) fail_input("{}: {} bytes too many", place, in.remaining());
  if (rotated) {
    const Rope& rope = geometry_of(meta, tile.layer).rope;
    unrotate_keys(rope, position, shape.shape[1], shape.shape[2], values);
  }
  const float most = largest_finite(tile.dtype);
  for (float& value : values) {
    value = value > most ? most : value;
    value = value < -most ? -most : value;
  }
  convert(std::as_bytes(std::span(values)), DType::kF32, raw, tile.dtype);
  std::copy(rows.exact.begin(), rows.exact.end(), raw.end() - std::ptrdiff_t(rows.exact.size()));
}

}  // namespace kv
