#pragma once
// A kv stream that can be read at any place, wherever it comes from.

#include "kv/container/reader.hh"

#include <memory>

namespace kv {

// The file itself, when it is a regular one with an index of which nothing has been read; else an
// unnamed copy in $TMPDIR with an index, gone with the process. `for_tool` is in the copy's name
// while it has one. Throws kInput for what is wrong with the stream, also when it is empty.
std::shared_ptr<IndexedFile> at_any_place(Input input, const char* for_tool);

}  // namespace kv
