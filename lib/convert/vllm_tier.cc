// vllm-tier: the file tier of vLLM's OffloadingConnector (TieringOffloadingSpec, type fs), with one
// block a file and the direct format:
//
//   MODEL_D/config.json, D the first 12 digits of SHA-256 over its fields in compact JSON
//   MODEL_D_r0/HHH/HH_g0/HASH.bin: of each worker behind each other all layers, each
//   [heads][tokens][K, then V], which is how the connector asks for blocks (LBHNC); zeros up to a
//   multiple of 4 KiB
//
// The hash is that of the default algorithm (sha256, of Python's pickle).

#include "block_store.hh"
#include "layouts.hh"

#include <nlohmann/json.hpp>

namespace kv {
namespace {

using format::Kind;
using nlohmann::json;

class TierStore : public BlockStore {
 public:
  TierStore(const LayoutCache& cache, const StoreOptions& options, std::int64_t block)
      : BlockStore(cache, options, block) {
    for (const LayerMeta& layer : cache.layers) {
      if (layer.geometry.window > 0) {
        fail_input(
            "layer {}: a sliding window; vLLM keeps such layers in groups of their own, "
            "which are not known here",
            layer.index);
      }
    }
    const std::string fields = description_json().dump(-1, ' ', true);
    base_ = model_name("_") + "_" + hex(sha256(as_bytes(fields))).substr(0, 12);
  }

  std::string_view family() const override { return "vllm-blocks"; }
  std::vector<std::string> files(const EngineKey& key) const override {
    const std::string_view hash = key.key;
    return {
        fmt::format("{}_r0/{}/{}_g0/{}.bin", base_, hash.substr(0, 3), hash.substr(3, 2), hash)};
  }
  StorePlace place(std::size_t layer, Kind kind, std::size_t device) const override {
    const std::size_t token = 2 * row_bytes(), head = block() * token;
    return {0, (device * layers() + layer) * heads() * head + (kind == Kind::kV ? row_bytes() : 0),
            head, token};
  }
  std::size_t file_bytes() const override {
    constexpr std::size_t kPage = 4096;
    const std::size_t bytes = devices() * layers() * heads() * block() * 2 * row_bytes();
    return (bytes + kPage - 1) / kPage * kPage;
  }
  std::optional<std::pair<std::string, Bytes>> description() const override {
    const std::string text = description_json().dump(2, ' ', true);
    const ByteView bytes = as_bytes(text);
    return std::pair(base_ + "/config.json", Bytes(bytes.begin(), bytes.end()));
  }

 private:
  json description_json() const {
    const DType dtype = cache().dtype;
    json names = json::array();
    for (const LayerMeta& layer : cache().layers) {
      names.push_back(fmt::format("model.layers.{}.self_attn.attn", layer.index));
    }
    return {{"model_name", options().model_name},
            {"tokens_per_hash", block()},
            {"blocks_per_file", 1},
            {"tp_size", devices()},
            {"pp_size", 1},
            {"pcp_size", 1},
            {"dcp_size", 1},
            {"dtype", dtype == DType::kBF16  ? "bfloat16"
                      : dtype == DType::kF16 ? "float16"
                                             : "float32"},
            {"kv_cache_groups",
             json::array({{{"tokens_per_block", block()}, {"layer_names", std::move(names)}}})},
            {"inference_engine", "vllm"},
            {"parallel_agnostic", false}};
  }

  std::string base_;
};

std::unique_ptr<BlockStore> make(const LayoutCache& cache, const LayoutOptions& options) {
  return std::make_unique<TierStore>(cache, *options.store, options.blocks->tokens);
}

}  // namespace

Layout vllm_tier_layout() { return store_layout<make>("vllm-tier", 16); }

}  // namespace kv
