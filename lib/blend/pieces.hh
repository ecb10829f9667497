#pragma once
// What is fused: members of kv streams, each prefilled for itself, placed one after another.

#include "kv/blend/select.hh"
#include "kv/session/layer_load.hh"
#include "kv/session/session.hh"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace kv {

struct PieceOptions {
  std::string prefix;              // a file with one member that comes first; empty: none
  std::vector<std::string> paths;  // of the other members; none: stdin
  // Which of those members, counted from 0 over all paths, come when; empty: all as they come.
  std::vector<std::int64_t> order;
  bool keep_bos = false;
  // load_parts() may be called more than once: pipes are copied to a file first.
  bool again = false;
  std::vector<std::int32_t> separator;  // between any two of prefix and members
  std::vector<std::int32_t> suffix;     // behind the last
};

// A slot is a token's row of the fused cache and its position.
struct Layout {
  std::vector<std::int32_t> ids;    // of all slots
  std::vector<Stretch> exact;       // rows that a prefill of the whole would give as well
  std::vector<Stretch> reused;      // rows that another context might change, by piece
  std::vector<std::int64_t> fresh;  // no row is there: separators and suffix, ascending
  std::int64_t suffix_begin = 0;    // slot
  std::vector<ChunkMeta> chunks;    // of the fused member
  std::int64_t prefix_repeats = 0;  // members that had the prefix before them, which was cut off
  std::int64_t bos_dropped = 0;     // likewise a BOS
  // Keys and values as they lie in the files; of a pipe's as they would be without a codec.
  std::uint64_t stored_bytes = 0;

  std::int64_t size() const { return static_cast<std::int64_t>(ids.size()); }
  std::vector<std::int64_t> candidates() const;  // slots of `reused`
};

// Members begin with the first token that is not there already: the BOS that a member was
// prefilled behind is left out unless it comes first (or keep_bos), and where a member begins with
// the tokens of the prefix, these are. A piece is exact when what its member had before it is all
// that stands before it now, and its file has neither lost values to a codec nor to 8 bits.
class Pieces {
 public:
  // Reads the members' heads. A regular file or stdin may hold any number of members; another pipe
  // holds one, which is read as the layers are needed; stdin, and what has no index, is copied to
  // $TMPDIR first. Throws kInput, naming the file: empty, of another model, without token ids or
  // layers, keys with RoPE; all together longer than the model's context. kUsage: an order that
  // names no member, or one twice. `session` outlives this.
  Pieces(const Session& session, const PieceOptions& options);
  ~Pieces();

  const Layout& layout() const;
  // All pieces on their way into a cache that holds the layout's slots.
  std::vector<LoadPart> load_parts();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kv
