#pragma once
// The order of a member's tiles, kept by writers and checked by readers.

#include "kv/container/meta.hh"

#include <string>
#include <utility>
#include <vector>

namespace kv {

class TileOrder {
 public:
  // `meta` must outlive this.
  explicit TileOrder(const Meta& meta) : meta_(meta), tensors_(meta.tensors()) {}

  // Empty when `tile` with `data_bytes` behind its header may come next, else why not.
  std::string accept(const format::TileHeader& tile, std::uint64_t data_bytes);
  // Empty when all tensors are whole, else what is missing.
  std::string missing() const;

  std::size_t whole_tensors() const;
  std::size_t tensor_count() const { return tensors_.size(); }

 private:
  using Tensor = std::pair<std::uint32_t, format::Kind>;
  std::string accept_base(const format::TileHeader& tile);
  std::string accept_refinement(const format::TileHeader& tile) const;
  std::uint64_t token_count() const { return static_cast<std::uint64_t>(meta_.token_count); }

  const Meta& meta_;
  std::vector<Tensor> tensors_;
  std::size_t tensor_ = 0;     // of the base tile that came last
  std::uint64_t covered_ = 0;  // its tokens so far
  format::TileHeader last_;
};

}  // namespace kv
