#include "ecsq_tile.hh"

#include "ecsq_values.hh"
#include "thirds.hh"

#include <algorithm>

namespace kv {
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
  // What memory coefficients take, the thread's next tile takes too.
  thread_local Quads room;
  TileCode code;
  code.coefficients = std::move(room);
  read_integers(scales.classes(), tokens, shape.row_bytes(), rest, place, code);
  EcsqValues values{.scales = &scales, .steps = &code.steps, .quality = refinements};
  Integers integers;
  if (refinements == 0) {
    values.quads = &code.coefficients;
    values.used = code.plan->used();
  } else {
    integers = integers_of(code, channels);
    for (int quality = 1; quality <= refinements; ++quality) {
      read_refinement(scales, code.steps, quality, qualities[static_cast<std::size_t>(quality)],
                      place, integers);
    }
    values.integers = integers.data();
    values.used = channels;
  }
  write_ecsq_rows(values, shape.dtype, rows);
  for (std::size_t i = 0; i < code.steps.exact.size(); ++i) {
    const ByteView row = code.exact_rows.subspan(i * shape.row_bytes(), shape.row_bytes());
    std::copy(row.begin(), row.end(),
              rows.begin() + static_cast<std::ptrdiff_t>(code.steps.exact[i] * shape.row_bytes()));
  }
  room = std::move(code.coefficients);
}

}  // namespace kv
