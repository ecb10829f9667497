// hicache: the file backend of SGLang's HiCache where its pages are layer_first: K
// [layers][tokens][heads][dim], then V alike. Of a model on several devices each has files of its
// own, with its part of the heads.

#include "block_store.hh"
#include "layouts.hh"
#include "two_ltd.hh"

namespace kv {
namespace {

class HicacheStore : public TwoLtdStore {
 public:
  using TwoLtdStore::TwoLtdStore;
  std::string_view family() const override { return "hicache"; }
  std::vector<std::string> files(const EngineKey& key) const override {
    std::vector<std::string> names;
    for (std::size_t rank = 0; rank < devices(); ++rank) {
      names.push_back(fmt::format("{}_{}_{}_{}.bin", key.key, model_name("-"), rank, devices()));
    }
    return names;
  }
};

std::unique_ptr<BlockStore> make(const LayoutCache& cache, const LayoutOptions& options) {
  return std::make_unique<HicacheStore>(cache, *options.store, options.blocks->tokens);
}

}  // namespace

Layout hicache_layout() { return store_layout<make>("hicache", 64); }

}  // namespace kv
