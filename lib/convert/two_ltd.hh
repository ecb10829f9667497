#pragma once
// Blocks as [K, V][layers][tokens][heads * dim], a file for each device. Private to the folder.

#include "block_store.hh"

namespace kv {

class TwoLtdStore : public BlockStore {
 public:
  using BlockStore::BlockStore;
  StorePlace place(std::size_t layer, format::Kind kind, std::size_t device) const override {
    const std::size_t token = heads() * row_bytes();
    const std::size_t before = layer + (kind == format::Kind::kV ? layers() : 0);
    return {device, before * block() * token, row_bytes(), token};
  }
  std::size_t file_bytes() const override { return 2 * layers() * block() * heads() * row_bytes(); }
};

}  // namespace kv
