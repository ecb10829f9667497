#pragma once
// Parts of one cache put together: by tokens (positions follow each other) or by layers.

#include "kv/codec/transcode.hh"

#include <memory>
#include <vector>

namespace kv {

// Every member of every source is a part. Parts by tokens must have the same model, layers, dtype
// and E, and each begin where the one before ends; parts by layers the same model, dtype, tokens
// and ids, and ascending layers. Throws kInput, naming both parts, when they do not fit.
// Tiles of the parts by tokens lie in another order than in the result, so sources that are no
// regular files are copied to a temporary one ($TMPDIR) first.
void join(const std::vector<std::string>& paths, Writer& writer,
          const std::optional<HistoryEntry>& history);

}  // namespace kv
