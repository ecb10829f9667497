#include "kivi.hh"

#include "bit_packing.hh"

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

// code * scale + least, where `least` is not above the group's values and the last code's value not
// below them, so that the error is half of `scale` at most.
struct Scale {
  std::uint16_t least_bits = 0, scale_bits = 0;
  float least = 0, scale = 0;

  static Scale of(float least, float most, int bits) {
    Scale s;
    s.least_bits = f16_not_above(least);
    s.least = f16_value(s.least_bits);
    s.scale_bits = f16_not_below((most - s.least) / static_cast<float>((1 << bits) - 1));
    s.scale = f16_value(s.scale_bits);
    return s;
  }
  static Scale from(ByteReader& in) {
    Scale s;
    s.least_bits = in.get<std::uint16_t>();
    s.scale_bits = in.get<std::uint16_t>();
    s.least = f16_value(s.least_bits);
    s.scale = f16_value(s.scale_bits);
    return s;
  }
  void put(ByteWriter& out) const {
    out.put(least_bits);
    out.put(scale_bits);
  }
  bool possible() const { return f16_finite(least_bits) && f16_finite(scale_bits); }
  std::uint32_t code(float value, int bits) const {
    if (scale == 0) return 0;
    const float code = std::rint((value - least) / scale);
    return static_cast<std::uint32_t>(std::clamp(code, 0.0f, static_cast<float>((1 << bits) - 1)));
  }
  float value(std::uint32_t code) const { return static_cast<float>(code) * scale + least; }
};

// Values of `count` tokens from `first` on: a scale for each channel.
bool put_key_group(const Rows& rows, std::int64_t first, std::int64_t count, int bits,
                   ByteWriter& out) {
  const auto channels = static_cast<std::size_t>(rows.channels);
  const std::span<const float> head = rows.row(first);
  std::vector<float> least(head.begin(), head.end()), most = least;
  for (std::int64_t token = first + 1; token < first + count; ++token) {
    const std::span<const float> row = rows.row(token);
    for (std::size_t c = 0; c < channels; ++c) {
      least[c] = std::min(least[c], row[c]);
      most[c] = std::max(most[c], row[c]);
    }
  }
  std::vector<Scale> scales;
  bool possible = true;
  for (std::size_t c = 0; c < channels; ++c) {
    scales.push_back(Scale::of(least[c], most[c], bits));
    scales.back().put(out);
    possible = possible && scales.back().possible();
  }
  if (!possible) return false;
  BitPacker packer(out);
  for (std::int64_t token = first; token < first + count; ++token) {
    const std::span<const float> row = rows.row(token);
    for (std::size_t c = 0; c < channels; ++c) packer.put(scales[c].code(row[c], bits), bits);
  }
  packer.finish();
  return true;
}

void get_key_group(Rows& rows, std::int64_t first, std::int64_t count, int bits, ByteReader& in) {
  const auto channels = static_cast<std::size_t>(rows.channels);
  std::vector<Scale> scales;
  for (std::size_t c = 0; c < channels; ++c) scales.push_back(Scale::from(in));
  BitUnpacker codes(in.take(packed_bytes(static_cast<std::size_t>(count) * channels, bits)));
  for (std::int64_t token = first; token < first + count; ++token) {
    const std::span<float> row = rows.row(token);
    for (std::size_t c = 0; c < channels; ++c) row[c] = scales[c].value(codes.get(bits));
  }
  if (!codes.finished()) fail_input("{}: the last byte is not filled with zeros", rows.place);
}

// A token: a scale for each `group` channels, the last group has the rest.
bool put_value_row(std::span<const float> row, std::size_t group, int bits, ByteWriter& out) {
  std::vector<Scale> scales;
  for (std::size_t first = 0; first < row.size(); first += group) {
    const auto part = row.subspan(first, std::min(group, row.size() - first));
    const auto [least, most] = std::minmax_element(part.begin(), part.end());
    scales.push_back(Scale::of(*least, *most, bits));
    scales.back().put(out);
    if (!scales.back().possible()) return false;
  }
  BitPacker packer(out);
  for (std::size_t c = 0; c < row.size(); ++c)
    packer.put(scales[c / group].code(row[c], bits), bits);
  packer.finish();
  return true;
}

void get_value_row(std::span<float> row, std::size_t group, int bits, ByteReader& in,
                   const std::string& place) {
  std::vector<Scale> scales;
  for (std::size_t first = 0; first < row.size(); first += group) scales.push_back(Scale::from(in));
  BitUnpacker codes(in.take(packed_bytes(row.size(), bits)));
  for (std::size_t c = 0; c < row.size(); ++c) row[c] = scales[c / group].value(codes.get(bits));
  if (!codes.finished()) fail_input("{}: the last byte is not filled with zeros", place);
}

}  // namespace

KiviCodec::KiviCodec(int bits, int group, bool rope)
    : RowCodec(fmt::format("kivi bits={} group={}", bits, group), rope),
      bits_(bits),
      group_(group) {}

bool KiviCodec::encode_rows(const Rows& rows, RowHead& head, ByteWriter& out) const {
  head.a = static_cast<std::uint8_t>(bits_);
  head.b = static_cast<std::uint8_t>(group_);
  if (rows.tile.kind != format::Kind::kK) {
    for (std::int64_t token = 0; token < rows.tokens; ++token) {
      if (!put_value_row(rows.row(token), static_cast<std::size_t>(group_), bits_, out))
        return false;
    }
    return true;
  }
  const std::int64_t grouped = rows.tokens / group_ * group_;
  for (std::int64_t first = 0; first < grouped; first += group_) {
    if (!put_key_group(rows, first, group_, bits_, out)) return false;
  }
  const std::size_t row_bytes = rows.exact.size() / static_cast<std::size_t>(rows.tokens);
  out.put_bytes(rows.exact.subspan(static_cast<std::size_t>(grouped) * row_bytes));
  return true;
}

void KiviCodec::decode_rows(Rows& rows, const RowHead& head, ByteReader& in) const {
  const int bits = head.a, group = head.b;
  if (bits < 2 || bits > 4 || group < 8 || group > 128 || head.c != 0 || head.d != 0) {
    fail_input("{}: kivi has no {} bits in groups of {}", rows.place, bits, group);
  }
  if (rows.tile.kind != format::Kind::kK) {
    for (std::int64_t token = 0; token < rows.tokens; ++token) {
      get_value_row(rows.row(token), static_cast<std::size_t>(group), bits, in, rows.place);
    }
    return;
  }
  const std::int64_t grouped = rows.tokens / group * group;
  for (std::int64_t first = 0; first < grouped; first += group) {
    get_key_group(rows, first, group, bits, in);
  }
  const auto left = static_cast<std::size_t>((rows.tokens - grouped) * rows.channels);
  rows.exact = in.take(left * dtype_size_bytes(rows.tile.dtype));
  std::fill(rows.values.end() - std::ptrdiff_t(left), rows.values.end(), 0.0f);
}

}  // namespace kv
