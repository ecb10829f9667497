#include "ggml_blocks.hh"

#include <algorithm>
#include <array>
#include <cmath>

namespace kv {
namespace {

constexpr std::size_t kBlock = 32;  // values of a row that share a scale; the last has the rest

// Calls with each block of each row.
template <typename F>
void each_block(const Rows& rows, F&& use) {
  for (std::int64_t token = 0; token < rows.tokens; ++token) {
    const std::span<float> row = rows.row(token);
    for (std::size_t first = 0; first < row.size(); first += kBlock) {
      use(row.subspan(first, std::min(kBlock, row.size() - first)));
    }
  }
}

// ggml divides by the scale before it is rounded to f16. Of a scale too small to divide by, zeros
// remain, as its f16 is 0.
float inverse_of(float scale) {
  const float inverse = scale == 0 ? 0 : 1 / scale;
  return std::isfinite(inverse) ? inverse : 0;
}

void require_no_parameters(const Rows& rows, const RowHead& head) {
  if (head.a != 0 || head.b != 0 || head.c != 0 || head.d != 0) {
    fail_input("{}: reserved bytes are set", rows.place);
  }
}

}  // namespace

bool Q8Codec::encode_rows(const Rows& rows, RowHead&, ByteWriter& out) const {
  bool possible = true;
  each_block(rows, [&](std::span<const float> block) {
    float most = 0;
    for (const float value : block) most = std::max(most, std::fabs(value));
    const float scale = most / 127, inverse = inverse_of(scale);
    const std::uint16_t bits = f16_bits(scale);
    possible = possible && f16_finite(bits);
    std::array<std::int8_t, kBlock> codes{};
    for (std::size_t i = 0; i < block.size(); ++i) {
      codes[i] = static_cast<std::int8_t>(std::round(block[i] * inverse));
    }
    out.put(bits);
    out.put_bytes(std::as_bytes(std::span(codes).first(block.size())));
  });
  return possible;
}

void Q8Codec::decode_rows(Rows& rows, const RowHead& head, ByteReader& in) const {
  require_no_parameters(rows, head);
  each_block(rows, [&](std::span<float> block) {
    const float scale = f16_value(in.get<std::uint16_t>());
    const ByteView codes = in.take(block.size());
    for (std::size_t i = 0; i < block.size(); ++i) {
      block[i] = scale * static_cast<float>(static_cast<std::int8_t>(codes[i]));
    }
  });
}

bool Q4Codec::encode_rows(const Rows& rows, RowHead&, ByteWriter& out) const {
  bool possible = true;
  each_block(rows, [&](std::span<const float> block) {
    // The value furthest from zero, whichever its sign, gets the code that has no twin: -8.
    float furthest = 0;
    for (const float value : block) {
      if (std::fabs(value) > std::fabs(furthest)) furthest = value;
    }
    const float scale = furthest / -8, inverse = inverse_of(scale);
    const std::uint16_t bits = f16_bits(scale);
    possible = possible && f16_finite(bits);
    const auto code = [&](std::size_t i) {
      const float shifted = i < block.size() ? block[i] * inverse + 8.5f : 8.5f;
      return static_cast<std::uint8_t>(std::min(15, static_cast<int>(shifted)));
    };
    const std::size_t half = (block.size() + 1) / 2;
    std::array<std::uint8_t, kBlock / 2> codes{};
    for (std::size_t i = 0; i < half; ++i) {
      codes[i] = static_cast<std::uint8_t>(code(i) | code(half + i) << 4);
    }
    out.put(bits);
    out.put_bytes(std::as_bytes(std::span(codes).first(half)));
  });
  return possible;
}

void Q4Codec::decode_rows(Rows& rows, const RowHead& head, ByteReader& in) const {
  require_no_parameters(rows, head);
  each_block(rows, [&](std::span<float> block) {
    const float scale = f16_value(in.get<std::uint16_t>());
    const std::size_t half = (block.size() + 1) / 2;
    const ByteView codes = in.take(half);
    for (std::size_t i = 0; i < block.size(); ++i) {
      const auto two = std::to_integer<int>(codes[i < half ? i : i - half]);
      block[i] = scale * static_cast<float>((i < half ? two & 15 : two >> 4) - 8);
    }
  });
}

}  // namespace kv
