#pragma once
// Caches in the files of other programs, behind one interface: a layout writes and reads the rows
// of K and V layer by layer, with one layer in memory. What all of them share (decoding, RoPE,
// dtypes, identity) is done outside, in export.cc and import.cc.

#include "kv/base/file.hh"
#include "kv/container/meta.hh"

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace kv {

// A cache as a layout sees it.
struct LayoutCache {
  ModelIdentity model;
  std::vector<LayerMeta> layers;     // K and V each, no latents
  DType dtype = DType::kBF16;        // of the rows that are handed over
  bool rope_applied = true;          // to the keys
  std::int64_t token_count = 0;      // over 0
  std::int64_t first_position = 0;   // of the first token
  std::vector<std::int32_t> tokens;  // token_count, or empty: unknown

  TensorView shape(std::size_t layer, format::Kind kind) const;
  std::size_t size_bytes(std::size_t layer, format::Kind kind) const;  // of all rows
};

struct LlamaOptions {
  std::uint32_t version = 3;  // of the file: 2 or 3
  bool columns = true;        // values, as in a context without flash attention
};

// vllm: for which of its attention kernels pages are made. kHere: for those that it would choose on
// this machine, were it started for processors; on the way in, what the files say, else the same.
enum class VllmBackend { kHere, kCpu, kAmx, kGpu };
std::string_view vllm_backend_name(VllmBackend backend);

struct BlockOptions {
  std::int64_t tokens = 0;  // of a block, over 0
  VllmBackend backend = VllmBackend::kHere;
};

// Of stores whose files are named by model and device.
struct StoreOptions {
  std::string model_name;  // as the engine was started with
  int tp = 1;              // devices that share the heads
  std::string seed;        // vllm-tier, lmcache: PYTHONHASHSEED, where it is not its default
  bool headers = true;     // lmcache: before each chunk
};

// What the user asked of a layout; see kvconvert(1). Options that a layout has not are refused.
struct LayoutOptions {
  std::optional<DType> dtype;          // default: the layout's
  std::optional<bool> rope;            // npy: whether RoPE is applied to the keys
  std::optional<LlamaOptions> llama;   // llamacpp, on the way out
  std::optional<BlockOptions> blocks;  // of whole blocks only; 0 tokens: the default
  std::optional<StoreOptions> store;   // all of these but vllm
};

// Where a cache goes: a file, or a folder that appears whole or not at all.
struct LayoutTarget {
  Output* file = nullptr;  // which the caller commits; null: a folder
  std::string folder;
  bool overwrite = false;
  int threads = 1;
};

class LayoutWriter {
 public:
  virtual ~LayoutWriter() = default;
  // Rows [tokens][heads][dim] in the cache's dtype. Layers come in order, each once.
  virtual void write_layer(std::size_t layer, ByteView keys, ByteView values) = 0;
  // Of what it chose by this machine, where users could have said it: its name. Else empty.
  virtual std::string made_for() const { return {}; }
  // After the last layer. What was written before is removed by a destructor without it.
  virtual void commit() = 0;
};

class LayoutReader {
 public:
  virtual ~LayoutReader() = default;
  const LayoutCache& cache() const { return cache_; }
  // Ids from elsewhere, at least token_count of a file without; those that the cache has are taken.
  // Throws kInput where the file shows that they are others.
  virtual void take_tokens(std::span<const std::int32_t> ids);
  // Rows as LayoutWriter has them; the spans are of size_bytes(). Any order.
  virtual void read_layer(std::size_t layer, std::span<std::byte> keys,
                          std::span<std::byte> values) = 0;

 protected:
  LayoutCache cache_;
};

struct Layout {
  std::string_view name;
  bool folder = false;                 // else one file
  bool needs_tokens = false;           // their ids
  bool asks_for_tokens = false;        // on the way in: nothing is found without
  bool from_first_token = false;       // only caches that begin at position 0
  bool can_leave_rope = false;         // keys with or without RoPE
  bool llama = false;                  // has LlamaOptions
  std::optional<BlockOptions> blocks;  // whole blocks only; the defaults
  bool backends = false;               // more than one of VllmBackend
  bool store = false;                  // has StoreOptions
  std::optional<DType> default_dtype;  // nothing: as in the cache
  std::vector<DType> dtypes;           // that it can hold

  std::unique_ptr<LayoutWriter> (*writer)(const LayoutCache&, const LayoutTarget&,
                                          const LayoutOptions&) = nullptr;
  // `wanted` has the model's identity and layers. Throws kInput, with the file's name, on damage
  // and on a cache of another geometry.
  std::unique_ptr<LayoutReader> (*reader)(const std::string& path, const LayoutCache& wanted,
                                          const LayoutOptions&) = nullptr;
};

// That for which vLLM keeps blocks of so many tokens in memory, on a processor with or without AMX.
VllmBackend vllm_backend(const LayoutCache& cache, std::int64_t block, bool amx);

// With the layout's defaults filled in. Throws kUsage for options that it has not.
LayoutOptions complete(const Layout& layout, LayoutOptions options);
// Throws kUsage, naming those there are.
const Layout& layout_by_name(std::string_view name);
std::span<const Layout> layouts();

// Throws kInput unless the file's shape of a tensor is the wanted one; both outermost first.
void require_shape(const std::string& place, std::span<const std::int64_t> found,
                   std::span<const std::int64_t> wanted);
// Whether a folder or file has the parts of each layer of the model and none of a next one: throws
// kInput. `has` says whether it has those of a layer, by its index in the model.
void require_layers(const std::string& place, const std::vector<LayerMeta>& layers,
                    const std::function<bool(std::uint32_t)>& has);
// Ids that a file keeps in eight bytes each. Throws kInput for what is no int32 over 0.
std::vector<std::int32_t> ids_of_int64(ByteView bytes, const std::string& place);
// Throws kInput when there are none, or more than kv(5) can hold.
void require_token_count(const std::string& place, std::int64_t count);

}  // namespace kv
