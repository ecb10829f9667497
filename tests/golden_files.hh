#pragma once
// The streams of tests/golden and tests/golden-bad, made anew at each call; name (without ".kv")
// and bytes.

#include <string>
#include <utility>
#include <vector>

namespace kv::golden {

using Files = std::vector<std::pair<std::string, std::string>>;

Files good();
Files lossy();  // good too: a source, what lossy codecs make of it, and what comes back
Files bad();

}  // namespace kv::golden
