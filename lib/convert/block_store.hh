#pragma once
// Stores with a file for each block of tokens, named by the hash of all tokens up to its end, that
// holds the block's rows of all layers. Private to the folder.

#include "kv/base/file.hh"
#include "kv/convert/engine_keys.hh"
#include "kv/convert/layout.hh"

#include <utility>

namespace kv {

// Where a block's rows of one layer, of K or V, and of one device's heads are: the row of head h
// and token t at offset + h * head_stride + t * token_stride, in one of the block's files.
struct StorePlace {
  std::size_t file = 0, offset = 0, head_stride = 0, token_stride = 0;
};

// What a kind of store is like. The heads of a token lie behind each other where head_stride is a
// row's bytes.
class BlockStore {
 public:
  // Throws kUsage without a name of the model and for devices that do not share the heads evenly,
  // kInput for layers that differ.
  BlockStore(const LayoutCache& cache, const StoreOptions& options, std::int64_t block);
  virtual ~BlockStore() = default;

  virtual std::string_view family() const = 0;  // of its keys
  // Below the store's folder. As many for each block.
  virtual std::vector<std::string> files(const EngineKey& key) const = 0;
  virtual StorePlace place(std::size_t layer, format::Kind kind, std::size_t device) const = 0;
  virtual std::size_t file_bytes() const = 0;
  // What each file begins with.
  virtual Bytes header() const { return {}; }
  // Files beside those of a block, and one beside all of them, which stays as it is when it is
  // there.
  virtual std::vector<std::pair<std::string, Bytes>> beside(const EngineKey&) const { return {}; }
  virtual std::optional<std::pair<std::string, Bytes>> description() const { return {}; }
  // Of a file in `bytes`, what must be skipped before the places count. Throws kInput with the
  // name.
  virtual std::size_t checked(const std::string& name, ByteView bytes) const;

  std::vector<EngineKey> keys(TokenIds ids) const;
  const LayoutCache& cache() const { return cache_; }
  std::size_t devices() const { return static_cast<std::size_t>(options_.tp); }
  std::size_t block() const { return block_; }
  std::size_t layers() const { return cache_.layers.size(); }
  std::size_t heads() const;      // of one device
  std::size_t row_bytes() const;  // of one head and token

 protected:
  // Its name with other characters in the place of '/'.
  std::string model_name(std::string_view slash) const;
  const StoreOptions& options() const { return options_; }

 private:
  const LayoutCache& cache_;
  StoreOptions options_;
  std::size_t block_;
};

using MakeStore = std::unique_ptr<BlockStore> (*)(const LayoutCache&, const LayoutOptions&);

// A layout of such a store.
std::unique_ptr<LayoutWriter> store_writer(const LayoutCache& cache, const LayoutTarget& target,
                                           const LayoutOptions& options, MakeStore make);
std::unique_ptr<LayoutReader> store_reader(const std::string& path, const LayoutCache& wanted,
                                           const LayoutOptions& options, MakeStore make);

template <MakeStore kMake>
Layout store_layout(std::string_view name, std::int64_t block) {
  return {.name = name,
          .folder = true,
          .needs_tokens = true,
          .asks_for_tokens = true,
          .from_first_token = true,
          .blocks = BlockOptions{.tokens = block},
          .store = true,
          .dtypes = {DType::kBF16, DType::kF16, DType::kF32},
          .writer = [](const LayoutCache& cache, const LayoutTarget& target,
                       const LayoutOptions& options) -> std::unique_ptr<LayoutWriter> {
            return store_writer(cache, target, options, kMake);
          },
          .reader = [](const std::string& path, const LayoutCache& wanted,
                       const LayoutOptions& options) -> std::unique_ptr<LayoutReader> {
            return store_reader(path, wanted, options, kMake);
          }};
}

}  // namespace kv
