#pragma once
// A source whose tiles can be decoded one by one: what needs the layers before it comes decoded,
// everything else as it is.

#include "kv/base/range.hh"
#include "kv/container/tile_source.hh"

#include <memory>
#include <optional>

namespace kv {

class DecodedSource {
 public:
  // Of each member only these layers and tokens are given, in whole tiles. `source` outlives this.
  DecodedSource(TileSource& source, Range layers, Range tokens, int threads);
  ~DecodedSource();

  // As TileSource has them. META's codec is as in the file.
  std::optional<Meta> next_member();
  std::optional<Tile> next_tile();
  // The same; its bytes are in `kept` or in the mapped source, so that they outlive the next call.
  std::optional<Tile> next_tile(Bytes& kept);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kv
