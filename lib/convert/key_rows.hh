#pragma once
// Rows of keys from one dtype to another, turned by RoPE on the way. Private to the folder.

#include "kv/codec/workers.hh"
#include "kv/container/rope.hh"
#include "kv/convert/layout.hh"

#include <deque>

namespace kv {

class KeyRows {
 public:
  // Of tokens 0 to token_count - 1 of the cache.
  KeyRows(const LayoutCache& cache, RopeTable::Turn turn, int threads)
      : cache_(cache), turn_(turn), workers_(threads) {}

  // Rows [tokens][heads][dim] of consecutive tokens, the first one `first`. Turned in f32; rounded
  // once, to `to_type`.
  void turned(std::size_t layer, std::int64_t first, ByteView from, DType from_type,
              std::span<std::byte> to, DType to_type);
  // Only the dtype.
  void converted(ByteView from, DType from_type, std::span<std::byte> to, DType to_type);

 private:
  struct Known {
    Rope rope;
    std::int64_t dim;
    RopeTable table;
  };
  const RopeTable& table_of(const LayerGeometry& geometry);

  const LayoutCache& cache_;
  RopeTable::Turn turn_;
  Workers workers_;
  std::deque<Known> known_;  // layers share few kinds
};

}  // namespace kv
