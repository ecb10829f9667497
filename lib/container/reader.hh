#pragma once
// Reading kv(5): members one after another from a pipe with one frame in memory, or any tile of a
// mapped file through its index. All hashes are verified; nothing from the file is trusted.

#include "kv/base/file.hh"
#include "kv/container/importance.hh"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kv {

struct Tile {
  format::TileHeader header;
  ByteView data;                   // after the tile header; valid until the reader's next call
  std::uint64_t frame_offset = 0;  // in the stream

  // Elements of a raw tile. `meta` is the member's.
  TensorView view(const Meta& meta) const;
};

// What --hex shows: a field, where it is, and what it means.
struct FieldNote {
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;
  std::string name, value;
};

class Reader {
 public:
  struct Options {
    bool verify = true;        // payload hashes; header hashes are always verified
    bool allow_empty = false;  // a stream of no bytes has no member, instead of being refused
    std::function<void(const FieldNote&)> on_field;  // called for each field, in order
  };

  explicit Reader(Input input);
  Reader(Input input, Options options);
  ~Reader();

  // The next member's META, or nothing at the end of the stream. Skips what is left of the
  // current member (still verified). Throws kInput: not a kv stream, truncated (saying how many
  // frames, tiles and tensors were whole), damaged, unsupported.
  std::optional<Meta> next_member();
  // Ids of the current member, before the first next_tile(); empty when it has none.
  const std::vector<std::int32_t>& tokens();
  // How much its tokens matter; empty when that was not measured.
  const Importance& importance();
  // The current member's tiles in file order; nothing after the last, once END was verified.
  std::optional<Tile> next_tile();

  const std::string& name() const;
  std::uint64_t offset() const;        // bytes consumed of the stream
  std::uint64_t member_index() const;  // of the current member, from 0
  // The header hash of the current member's END frame, after its last tile.
  std::uint64_t member_hash() const;
  std::uint64_t frame_count() const;  // of the current member so far; with END after its last tile

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Random access to a regular file: reads only END, INDX, META and the tiles asked for.
class IndexedFile {
 public:
  // Throws kInput when a member has no index or is damaged, kUsage for what is no regular file. The
  // input may be closed afterwards.
  explicit IndexedFile(const Input& input);
  explicit IndexedFile(const std::string& path) : IndexedFile(Input::open(path)) {}
  ~IndexedFile();

  std::size_t members() const;
  const Meta& meta(std::size_t member) const;
  std::uint64_t member_size_bytes(std::size_t member) const;
  std::vector<std::int32_t> tokens(std::size_t member) const;
  Importance importance(std::size_t member) const;
  const std::vector<format::IndexEntry>& index(std::size_t member) const;
  // Verified, zero-copy out of the mapping; valid as long as this object.
  Tile tile(std::size_t member, std::size_t entry) const;
  // Bytes of frames touched so far: what a reader of a layer really reads.
  std::uint64_t touched_bytes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kv
