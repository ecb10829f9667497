#include "kv/container/slice.hh"

#include <algorithm>

namespace kv {

Meta slice_meta(const Meta& meta, const Range& layers, const Range& tokens,
                const std::string& place) {
  Meta part = meta;
  std::erase_if(part.layers, [&](const LayerMeta& layer) { return !layers.contains(layer.index); });
  std::erase_if(part.hidden_layers, [&](std::uint32_t layer) { return !layers.contains(layer); });
  if (part.layers.empty() && part.hidden_layers.empty() && !layers.whole()) {
    fail_usage("{}: --layers {}:{} takes none of the member's layers", place, layers.first,
               layers.last);
  }
  if (layers.last >= 0 && !meta.layers.empty() && layers.last > meta.layers.back().index + 1) {
    fail_usage("{}: --layers ends at {}, the member's last layer is {}", place, layers.last,
               meta.layers.back().index);
  }
  if (tokens.whole()) return part;
  const std::int64_t last = tokens.last < 0 ? meta.token_count : tokens.last;
  if (last > meta.token_count || tokens.first >= last) {
    fail_usage("{}: --tokens {}:{} is not within the member's {} tokens", place, tokens.first, last,
               meta.token_count);
  }
  part.token_count = last - tokens.first;
  part.first_position += tokens.first;
  part.chunks.clear();
  for (ChunkMeta chunk : meta.chunks) {
    const std::int64_t begin = std::max(chunk.token_begin, tokens.first);
    const std::int64_t end = std::min(chunk.token_begin + chunk.token_count, last);
    if (begin >= end) continue;
    chunk.bos = chunk.bos && begin == chunk.token_begin;
    chunk.token_begin = begin - tokens.first;
    chunk.token_count = end - begin;
    part.chunks.push_back(std::move(chunk));
  }
  return part;
}

}  // namespace kv
