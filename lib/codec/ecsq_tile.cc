#include "ecsq_tile.hh"

#include "row_codec.hh"
#include "thirds.hh"

#include <algorithm>

namespace kv {
namespace {

// [tokens][channels], within -most to most.
std::vector<float> values_of(const EcsqScales& scales, const TileSteps& steps, int quality,
                             const Integers& integers, float most) {
  const auto tokens = static_cast<std::int64_t>(steps.tokens.size());
  const std::int64_t channels = scales.channels();
  std::vector<float> columns(integers.size()), values(integers.size());
  for (std::int64_t c = 0; c < channels; ++c) {
    std::array<float, 2 * kMostTokenStep + 1> step;
    for (int i = -kMostTokenStep; i <= kMostTokenStep; ++i) {
      step[static_cast<std::size_t>(i + kMostTokenStep)] =
          scales.step(static_cast<std::size_t>(c), i, quality);
    }
    for (std::int64_t t = 0; t < tokens; ++t) {
      const auto at = static_cast<std::size_t>(c * tokens + t);
      const int of_token = steps.tokens[static_cast<std::size_t>(t)];
      columns[at] = static_cast<float>(integers[at]) *
                    step[static_cast<std::size_t>(of_token + kMostTokenStep)];
    }
  }
  turn_back(scales.rotations, tokens, columns);
  const float unit = scales.mean_unit();
  for (std::int64_t c = 0; c < channels; ++c) {
    const float mean = static_cast<float>(scales.mean[static_cast<std::size_t>(c)]) * unit;
    for (std::int64_t t = 0; t < tokens; ++t) {
      const float value = mean + columns[static_cast<std::size_t>(c * tokens + t)];
      values[static_cast<std::size_t>(t * channels + c)] = std::clamp(value, -most, most);
    }
  }
  return values;
}

}  // namespace

bool ecsq_can_code(const TensorView& shape) {
  return shape.shape[0] <= kMostTileTokens && shape.row_values() <= kMostEcsqChannels &&
         shape.shape[0] * shape.row_values() <= kMostTileValues;
}

Integers integers_of(const TileCode& code, std::int64_t channels) {
  const auto tokens = static_cast<std::int64_t>(code.steps.tokens.size());
  Integers integers;
  integers.reserve(static_cast<std::size_t>(channels * tokens));
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      integers.push_back(static_cast<std::int16_t>(code.coefficients.value(c, t)));
    }
  }
  return integers;
}

void decode_ecsq(std::span<const ByteView> qualities, const TensorView& shape,
                 const std::string& place, std::span<std::byte> rows) {
  if (!ecsq_can_code(shape) || shape.dtype == DType::kI8) {
    fail_input("{}: a tile of {} tokens and {} values a token", place, shape.shape[0],
               shape.row_values());
  }
  const int refinements = static_cast<int>(qualities.size()) - 1;
  if (refinements > kMostRefinements) fail_input("{}: {} refinements", place, refinements);
  const std::int64_t tokens = shape.shape[0], channels = shape.row_values();
  ByteReader in(qualities.front(), place);
  const EcsqScales scales = EcsqScales::from(in, channels, place);
  const ByteView rest = in.take(in.remaining());
  if (profile_of(rest, place) != 0) fail_input("{}: a tile of ecsq needs no profile", place);
  const TileCode code =
      read_tile_code(scales.classes(), tokens, shape.row_bytes(), nullptr, rest, place);
  if (code.steps.base != 0) fail_input("{}: step {} is out of range", place, code.steps.base);
  Integers integers = integers_of(code, channels);
  for (int quality = 1; quality <= refinements; ++quality) {
    read_refinement(scales, code.steps, quality, qualities[static_cast<std::size_t>(quality)],
                    place, integers);
  }
  const std::vector<float> values =
      values_of(scales, code.steps, refinements, integers, largest_finite(shape.dtype));
  convert(std::as_bytes(std::span(values)), DType::kF32, rows, shape.dtype);
  for (std::size_t i = 0; i < code.steps.exact.size(); ++i) {
    const ByteView row = code.exact_rows.subspan(i * shape.row_bytes(), shape.row_bytes());
    std::copy(row.begin(), row.end(),
              rows.begin() + static_cast<std::ptrdiff_t>(code.steps.exact[i] * shape.row_bytes()));
  }
}

}  // namespace kv
