#pragma once
// Token ids that a user gives beside a file.

#include "kv/base/file.hh"

#include <cstdint>
#include <vector>

namespace kv {

// Whole numbers apart by white space or commas, with or without brackets around all: what `kvinfo
// --tokens` prints, and a list of JSON. Throws kInput, with the byte, for anything else, for none
// and for more than kv(5) can hold.
std::vector<std::int32_t> read_ids(Input input);

}  // namespace kv
