#pragma once
// The codec `thirds`, number 4: a tile that refines one of `ecsq`, or refines its refinement. It
// says of each integer in which third of its step the value lies, so that steps become a third.
// Layout in kv(5). Private to the folder.

#include "ecsq_integers.hh"
#include "ecsq_scales.hh"

namespace kv {

inline constexpr int kMostRefinements = 4;

// The tile that makes `integers`, which belong to quality `quality` - 1, those of `quality`.
// `wanted` is what they should become: they do as far as what is coded reaches.
Bytes refine(const EcsqScales& scales, const TileSteps& steps, int quality, Integers& integers,
             const Integers& wanted);
// Likewise from the tile. Throws kInput, with `place`.
void read_refinement(const EcsqScales& scales, const TileSteps& steps, int quality, ByteView data,
                     const std::string& place, Integers& integers);

}  // namespace kv
