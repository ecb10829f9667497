#pragma once
// Two kv streams side by side, rows of the same tensor and tokens at a time. Private to the folder.

#include "kv/codec/decoded_source.hh"
#include "kv/diff/diff.hh"

#include <optional>
#include <string>
#include <vector>

namespace kv {

// A stream's tiles as f32, taken in pieces: a tile is in memory, not more.
class TileRows {
 public:
  TileRows(const std::string& path, int threads);

  std::optional<Meta> next_member() { return decoded_.next_member(); }
  std::vector<std::int32_t> tokens() { return source_.tokens(); }
  const std::string& name() const { return source_.name(); }
  // What is next of the member: the tile's header, with the tokens that were not taken. Tiles of E
  // are passed over unless `hidden`.
  std::optional<format::TileHeader> peek(const Meta& meta, bool hidden);
  // The next rows, at most as many as peek() says; valid until the next call. [tokens][heads][dim].
  std::span<const float> take(std::int64_t tokens);
  std::int64_t heads() const { return heads_; }
  std::int64_t dim() const { return dim_; }

 private:
  TileSource source_;
  DecodedSource decoded_;
  std::optional<format::TileHeader> tile_;
  std::vector<float> values_;
  std::size_t taken_ = 0;  // values
  std::int64_t heads_ = 0, dim_ = 0;
};

struct PairedRows {
  format::TileHeader tile;  // of these tokens
  std::int64_t heads = 0, dim = 0;
  std::span<const float> a, b;  // [tokens][heads][dim]
};

class TilePairs {
 public:
  TilePairs(const std::string& a, const std::string& b, const DiffOptions& options);
  // The first's META; nothing when both streams are at their end. Throws kInput when only one is,
  // or when the members do not hold the same.
  std::optional<Meta> next_member();
  std::optional<PairedRows> next();

 private:
  void require_comparable(const Meta& a, const Meta& b);

  const DiffOptions& options_;
  TileRows a_, b_;
  Meta meta_a_, meta_b_;
  bool hidden_ = false;
};

}  // namespace kv
