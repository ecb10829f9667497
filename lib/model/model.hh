#pragma once
// The forward pass of Llama-like models, layer by layer and for any subset of rows. A row is one
// token's hidden state; it attends, by position, to every slot of the cache that is not behind it.
//
//   auto checkpoint = Checkpoint::open("smollm2");
//   auto model = Model::load(*checkpoint);
//   KvCache cache = model->make_cache({.capacity = 4096});
//   std::vector<float> logits = model->forward(ids, cache).logits;
//
// Everything throws kv::Error: kDevice when a device is missing or out of memory, kUsage for
// indices that do not fit. Not for several threads at once.

#include "kv/checkpoint/checkpoint.hh"
#include "kv/model/kv_cache.hh"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace at {
class Tensor;
}

namespace kv {

// kAuto is bf16 where the hardware multiplies it faster (CUDA, cpu_favours_bf16()), else f32.
enum class Compute { kAuto, kF32, kBF16, kF16 };
// kAuto is CUDA where there is a device, else the CPU.
enum class Device { kAuto, kCpu, kCuda };

Compute parse_compute(std::string_view name);  // throws kUsage
Device parse_device(std::string_view name);    // throws kUsage

struct ModelOptions {
  Compute compute = Compute::kAuto;
  Device device = Device::kAuto;
  int threads = 0;         // 0: all cores
  bool plain_ops = false;  // LibTorch's own operations on the CPU too, as on a GPU; for comparisons
  bool with_head = false;  // read the output head now, not when logits are first asked for
  // Read no weights until load_weights(), so that a cache can be read at the same time.
  bool weights_later = false;
};

struct CacheOptions {
  std::int64_t capacity = 0;  // tokens
  bool keep_unrotated_keys =
      false;                      // needed for KvCache::save() of keys; half as much memory again
  bool layers_on_demand = false;  // KvCache::open_layer() makes room for each
};

enum class LogitRows { kNone, kLast, kAll };

struct ForwardOptions {
  LogitRows logits = LogitRows::kLast;
  // Of the first id; -1: behind what the cache holds.
  std::int64_t first_position = -1;
  // Keep E, the hidden states at these layers' inputs.
  std::vector<std::int64_t> hidden_layers = {};
  // Measure how much the cache's tokens matter to the rows of this pass.
  bool importance = false;
  std::int64_t block = 1024;  // rows a pass
  // Called before each layer of each block, when the layer's older slots must be ready.
  std::function<void(std::int64_t)> before_layer = {};
  // Called with the tokens of each finished block.
  std::function<void(std::int64_t)> on_tokens = {};
};

// By slot of the cache: weights of a layer's keys and values, 0 or more, comparable within each.
// importance.hh has their definition.
struct TokenImportance {
  std::vector<float> keys, values;
};

struct ForwardResult {
  std::vector<float> logits;                // [rows asked for][vocab]
  std::vector<std::vector<float>> hidden;   // by ForwardOptions::hidden_layers: [ids][hidden]
  std::vector<TokenImportance> importance;  // by layer, if ForwardOptions::importance
};

class Model {
 public:
  // The checkpoint must outlive the model: embedding rows are read from its mapping. Weights are
  // converted tensor by tensor. Throws kDevice when CUDA is asked for and not there.
  static std::unique_ptr<Model> load(const Checkpoint& checkpoint,
                                     const ModelOptions& options = {});
  ~Model();

  // Once, after load() with ModelOptions::weights_later, before anything is computed.
  void load_weights();

  const ModelConfig& config() const;
  DType compute() const;       // of weights and caches
  std::string device() const;  // "cpu" or "cuda"
  int threads() const;         // of the process's pool
  KvCache make_cache(const CacheOptions& options) const;

  // All layers for ids that follow each other; their slots are appended to the cache.
  ForwardResult forward(std::span<const std::int32_t> ids, KvCache& cache,
                        const ForwardOptions& options = {}) const;

  // The parts of forward(). Hidden states are f32 [rows, hidden] on the model's device; row i
  // belongs to slots[i] of the cache.
  at::Tensor embed(std::span<const std::int32_t> ids) const;
  // Writes the rows' keys and values into their slots of this layer, then attends and goes through
  // the MLP. `hidden` is replaced by the layer's output.
  void run_layer(std::int64_t layer, at::Tensor& hidden, std::span<const std::int64_t> slots,
                 KvCache& cache) const;
  // Only the first step of run_layer(): keys and values from the layer's input.
  void write_keys_values(std::int64_t layer, const at::Tensor& hidden,
                         std::span<const std::int64_t> slots, KvCache& cache) const;
  // Queries as the layer makes them of its input, before RoPE: f32 [rows, query heads, k_dim].
  at::Tensor queries(std::int64_t layer, const at::Tensor& hidden) const;
  // What attention each slot of the cache gets from these rows, whose keys are in it: by slot, the
  // sum over rows and query heads; all of them together give rows x heads. Throws kUsage for a
  // cache on the CPU that does not keep its keys un-rotated.
  std::vector<float> attention_mass(std::int64_t layer, const at::Tensor& hidden,
                                    std::span<const std::int64_t> slots,
                                    const KvCache& cache) const;
  // Final norm and head: f32 [rows, vocab].
  at::Tensor logits(const at::Tensor& hidden) const;

  // Host copies and back, f32.
  at::Tensor hidden_from(std::span<const float> rows) const;
  static std::vector<float> floats_of(const at::Tensor& tensor);

 private:
  struct State;
  explicit Model(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kv
