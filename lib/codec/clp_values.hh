#pragma once
// Values of a plan's symbols from and to quads, in vectors. Private to the folder.

#include "clp_plan.hh"
#include "kv/base/bytes.hh"
#include "quads.hh"

#include <cstdint>
#include <span>
#include <vector>

namespace kv {

// Of each of the plan's steps 32 values, as the entropy coder takes them. Values of tokens without
// symbols and of coefficients beyond a row's groups are 0.
void place_values(const SymbolPlan& plan, const std::int8_t* values, Quads& out);
void take_values(const SymbolPlan& plan, const Quads& from, std::int8_t* values);

// Coefficients that the plan does not code become 0, as the decoder will see them: all in quads
// below plan.used(), and those of tokens beyond the tile's.
void clear_uncoded(const SymbolPlan& plan, Quads& coefficients);

// Appends the steps with a value beyond `most` of their table, ascending.
void find_beyond(std::span<const RansStep> steps, const std::int8_t* values,
                 std::span<const std::int8_t> most, std::vector<std::uint32_t>& found);

}  // namespace kv
