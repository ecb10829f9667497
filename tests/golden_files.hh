#pragma once
// The streams of tests/golden and tests/golden-bad, made anew at each call; name (without ".kv",
// but for lossy() and clp()) and bytes.

#include <string>
#include <utility>
#include <vector>

namespace kv::golden {

using Files = std::vector<std::pair<std::string, std::string>>;

Files good();
// Good too: a source and a profile, what lossy codecs make of them, and what comes back.
Files lossy();
Files clp();  // as lossy()
Files bad();

}  // namespace kv::golden
