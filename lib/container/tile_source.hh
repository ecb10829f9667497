#pragma once
// Members and chosen tiles, from a pipe or a file: a regular file with an index gives only what is
// asked for, everything else is read through.

#include "kv/container/reader.hh"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kv {

class TileSource {
 public:
  using WantFn = std::function<bool(const format::TileHeader&)>;

  // kAll reads and verifies every byte; kSome, where it can, only what is asked for.
  enum class Access { kAll, kSome };

  // "-" or "": stdin. Throws as Reader does. An empty stream has no member where that is allowed.
  explicit TileSource(const std::string& path, Access access = Access::kAll);
  TileSource(Input input, Access access, bool allow_empty);
  // Of one member of a file that others read as well, though not at the same time.
  TileSource(std::shared_ptr<IndexedFile> file, std::size_t member, std::string name);
  ~TileSource();

  std::optional<Meta> next_member();
  std::vector<std::int32_t> tokens();  // of the current member, before its first tile
  Importance importance();             // as tokens()
  // The next tile of the current member that is wanted; valid until the next call, or as long as
  // this object where keeps_tiles() says so: they lie in a mapped file.
  std::optional<Tile> next_tile(const WantFn& want);

  bool keeps_tiles() const;

  const std::string& name() const;
  std::uint64_t member_index() const;
  std::uint64_t read_bytes() const;                 // of the stream, so far
  std::optional<std::uint64_t> size_bytes() const;  // of a regular file

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kv
