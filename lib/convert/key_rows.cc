#include "key_rows.hh"

#include "float_rows.hh"

#include <algorithm>

namespace kv {
namespace {

constexpr std::size_t kValues = 1u << 15;  // of f32 at a time: within the second-level cache

}  // namespace

const RopeTable& KeyRows::table_of(const LayerGeometry& geometry) {
  for (const Known& known : known_) {
    if (known.rope == geometry.rope && known.dim == geometry.k_dim) return known.table;
  }
  return known_
      .emplace_back(Known{
          geometry.rope, geometry.k_dim,
          RopeTable(geometry.rope, geometry.k_dim,
                    static_cast<std::uint64_t>(cache_.first_position), cache_.token_count, turn_,
                    [this](std::size_t count, const auto& work) { workers_.each(count, work); })})
      .table;
}

void KeyRows::turned(std::size_t layer, std::int64_t first, ByteView from, DType from_type,
                     std::span<std::byte> to, DType to_type) {
  const LayerGeometry& geometry = cache_.layers[layer].geometry;
  const RopeTable& table = table_of(geometry);
  const auto row = static_cast<std::size_t>(geometry.kv_heads * geometry.k_dim);
  const std::size_t from_row = row * dtype_size_bytes(from_type);
  const std::size_t to_row = row * dtype_size_bytes(to_type);
  const std::size_t tokens = from.size() / from_row;
  const bool vectors =
      has_float_rows(from_type) && has_float_rows(to_type) && table.half() % kTurnedMultiple == 0;
  const std::size_t step = std::max<std::size_t>(1, kValues / row);
  workers_.each((tokens + step - 1) / step, [&](std::size_t i) {
    thread_local std::vector<float> values;
    const std::size_t begin = i * step, count = std::min(step, tokens - begin);
    if (vectors) {
      for (std::size_t token = begin; token < begin + count; ++token) {
        const std::int64_t position = first + static_cast<std::int64_t>(token);
        turn_floats(from.subspan(token * from_row, from_row), from_type,
                    {table.cosines(position), table.sines(position), table.half()},
                    to.subspan(token * to_row, to_row), to_type);
      }
      return;
    }
    values.resize(count * row);
    convert(from.subspan(begin * from_row, count * from_row), from_type,
            std::as_writable_bytes(std::span(values)), DType::kF32);
    table.turn(first + static_cast<std::int64_t>(begin), geometry.kv_heads, values);
    convert(std::as_bytes(std::span(values)), DType::kF32,
            to.subspan(begin * to_row, count * to_row), to_type);
  });
}

void KeyRows::converted(ByteView from, DType from_type, std::span<std::byte> to, DType to_type) {
  const std::size_t from_size = dtype_size_bytes(from_type), to_size = dtype_size_bytes(to_type);
  const std::size_t values = from.size() / from_size;
  constexpr std::size_t kStep = kValues * 8;
  workers_.each((values + kStep - 1) / kStep, [&](std::size_t i) {
    const std::size_t begin = i * kStep, count = std::min(kStep, values - begin);
    const ByteView part = from.subspan(begin * from_size, count * from_size);
    const std::span<std::byte> out = to.subspan(begin * to_size, count * to_size);
    if (from_type != to_type && has_float_rows(from_type) && has_float_rows(to_type)) {
      convert_floats(part, from_type, out, to_type);
    } else {
      convert(part, from_type, out, to_type);
    }
  });
}

}  // namespace kv
