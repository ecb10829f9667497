#pragma once
// What kv(5) asks of a META beyond the types of its fields; the reader refuses and the writer
// rejects by the same rules.

#include "kv/container/meta.hh"

#include <string>
#include <string_view>

namespace kv {

// Empty when all is well.
std::string problem_of(const Meta& meta);

// "K", or the number of a kind that is none.
std::string kind_text(format::Kind kind);
// Text from a file, for a message: quoted, escaped and cut, so that it stays one line.
std::string printable(std::string_view text);

}  // namespace kv
