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
  ReadIntegers read =
      read_integers(scales.classes(), channels, tokens, shape.row_bytes(), rest, place);
  for (int quality = 1; quality <= refinements; ++quality) {
    read_refinement(scales, read.steps, quality, qualities[static_cast<std::size_t>(quality)],
                    place, read.integers);
  }
  const std::vector<float> values =
      values_of(scales, read.steps, refinements, read.integers, largest_finite(shape.dtype));
  convert(std::as_bytes(std::span(values)), DType::kF32, rows, shape.dtype);
  for (std::size_t i = 0; i < read.steps.exact.size(); ++i) {
    const ByteView row = read.exact_rows.subspan(i * shape.row_bytes(), shape.row_bytes());
    std::copy(row.begin(), row.end(),
              rows.begin() + static_cast<std::ptrdiff_t>(read.steps.exact[i] * shape.row_bytes()));
  }
}

}  // namespace kv
