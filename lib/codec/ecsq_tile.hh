#pragma once
// A tile of the codec `ecsq`, which knows no model: means, steps, a transform and classes of each
// channel are measured from the tile and stand in it. Layout in kv(5). Private to the folder.

#include "kv/container/tensor.hh"
#include "thirds.hh"

#include <optional>

namespace kv {

// How to code a tile.
struct EcsqPlan {
  double step = 0.5;                 // of the channels' deviation, all of them together
  std::vector<std::int8_t> tokens;   // half octaves beside it; empty: 0
  std::vector<std::uint16_t> exact;  // these are kept as they are, and ...
  bool find_exact = true;            // ... those whose norm stands out
  int refinements = 0;               // each makes the step a third; 0 to kMostRefinements
  std::int64_t block = 64;           // channels that may be turned into each other
};

// Whether the tile is within the codec's sizes.
bool ecsq_can_code(const TensorView& shape);

// The tile's data and that of its refinements. `rows` is of a floating-point dtype. Nothing where
// the tile cannot be coded: too large, or of scales too far apart.
std::optional<std::vector<Bytes>> encode_ecsq(const TensorView& rows, const EcsqPlan& plan);
// Fills `rows` from as many. Throws kInput, with `place`.
void decode_ecsq(std::span<const ByteView> qualities, const TensorView& shape,
                 const std::string& place, std::span<std::byte> rows);

}  // namespace kv
