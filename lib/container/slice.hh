#pragma once
// A part of a member as a member of its own.

#include "kv/base/range.hh"
#include "kv/container/meta.hh"

namespace kv {

// META of the layers (by their index in the model) and tokens (from the member's first) in the
// ranges: first_position moves on, chunks are clipped, E layers are kept where the layer is.
// Throws kUsage, with `place`, when a range has nothing or ends behind the member.
Meta slice_meta(const Meta& meta, const Range& layers, const Range& tokens,
                const std::string& place);

}  // namespace kv
