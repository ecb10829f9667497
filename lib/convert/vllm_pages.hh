#pragma once
// The memory of vLLM's attention kernels. Private to the folder.

#include "kv/convert/layout.hh"

namespace kv {

// Moves rows of K and V into a tensor [tokens][heads][C] and back. On a GPU, C is a token's K, then
// its V. On a processor the memory of a block and head is K as [dim][block] and then V as
// [block][dim], or tiles of AMX, and the tensor takes C of its values after another for each
// "token".
class VllmPages {
 public:
  // Throws kUsage where the backend can not have such blocks.
  VllmPages(const LayoutCache& cache, std::int64_t block, VllmBackend backend);

  VllmBackend backend() const { return backend_; }
  std::int64_t block() const { return static_cast<std::int64_t>(block_); }
  std::vector<std::int64_t> shape(std::size_t layer) const;

  // The tokens from `first` on, of whole blocks, into their part of the tensor.
  void put(std::size_t layer, ByteView keys, ByteView values, std::size_t first,
           std::span<std::byte> part) const;
  void take(std::size_t layer, ByteView tensor, std::span<std::byte> keys,
            std::span<std::byte> values) const;

 private:
  const LayoutCache& cache_;
  std::size_t block_;
  VllmBackend backend_;
};

}  // namespace kv
