#pragma once
// How much the tokens of a member matter to queries: the payload of an IMPT frame. It has a row of
// token_count bytes for each K, V and L of META's layers, in file order; byte b says that the token
// weighs 2^((b - 128) / 8), where 1 is the mean of the row's tokens as they were measured.

#include "kv/base/range.hh"
#include "kv/container/meta.hh"

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace kv {

using Importance = std::vector<std::uint8_t>;  // empty: not measured

// (layer, kind) of each row.
std::vector<std::pair<std::uint32_t, format::Kind>> importance_rows(const Meta& meta);
// What a member's payload must have.
std::uint64_t importance_size_bytes(const Meta& meta);
// Empty when each byte is over 0, else which is not.
std::string problem_of(std::span<const std::uint8_t> importance);

// To the nearest, and into 1 to 255: weights from 2^-15.875 to 2^15.875.
std::uint8_t importance_byte(double weight);
double importance_weight(std::uint8_t byte);
// One row of weights, divided by their mean. All are alike where the mean is no positive number.
void put_importance(std::span<const float> weights, std::span<std::uint8_t> row);

// The rows of `layers` and in them the bytes of `tokens`, of a member with `meta`; both as
// slice_meta() takes them. Bytes stay as they are, so that a cut can be undone.
Importance slice_importance(const Importance& importance, const Meta& meta, const Range& layers,
                            const Range& tokens);

}  // namespace kv
