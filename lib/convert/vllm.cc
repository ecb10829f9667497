// vllm: the folder in which the ExampleConnector of vLLM looks for the whole blocks of a prompt,
// DIR/MD5/model.layers.N.self_attn.attn.safetensors with one tensor "kv_cache" [tokens][heads][C].
//
// The tensor shows the memory of the attention kernels: on a GPU, C is a token's K, then its V. On
// a CPU the memory of a block and head is K as [dim][block] and then V as [block][dim], and the
// tensor takes C of its values after another for each "token". Which of both it is, the files do
// not say.

#include "kv/checkpoint/safetensors.hh"
#include "kv/convert/engine_keys.hh"
#include "layouts.hh"
#include "new_folder.hh"
#include "safetensors_out.hh"
#include "transpose.hh"

#include <filesystem>

namespace kv {
namespace {

using format::Kind;

// Moves rows of K and V into the tensor and back.
class Pages {
 public:
  Pages(const LayoutCache& cache, const BlockOptions& options) : cache_(cache), options_(options) {}

  std::vector<std::int64_t> shape(std::size_t layer) const {
    const LayerGeometry& geometry = cache_.layers[layer].geometry;
    return {cache_.token_count, geometry.kv_heads, geometry.k_dim + geometry.v_dim};
  }

  void put(std::size_t layer, ByteView keys, ByteView values, std::span<std::byte> tensor) {
    const Sizes sizes(cache_, layer);
    if (!options_.cpu) {
      for (std::size_t row = 0; row < sizes.tokens * sizes.heads; ++row) {
        std::memcpy(&tensor[row * sizes.c()], &keys[row * sizes.k], sizes.k);
        std::memcpy(&tensor[row * sizes.c() + sizes.k], &values[row * sizes.v], sizes.v);
      }
      return;
    }
    each_page(sizes, [&](std::size_t first, std::size_t head) {
      for (std::size_t i = 0; i < block(); ++i) {
        const std::size_t row = (first + i) * sizes.heads + head;
        std::memcpy(&rows_[i * sizes.k], &keys[row * sizes.k], sizes.k);
        std::span<std::byte> to = options_.amx ? rows_ : page_;
        std::memcpy(&to[block() * sizes.k + i * sizes.v], &values[row * sizes.v], sizes.v);
      }
      if (options_.amx) {
        tile(sizes, [&](std::size_t row, std::size_t at) { copy(sizes, rows_, row, turned_, at); });
        std::swap(page_, turned_);
      } else {
        transpose(std::span(rows_).first(block() * sizes.k), block(), sizes.k / sizes.element,
                  sizes.element, page_);
      }
      for (std::size_t i = 0; i < block(); ++i) {
        const std::size_t row = (first + i) * sizes.heads + head;
        std::memcpy(&tensor[row * sizes.c()], &page_[i * sizes.c()], sizes.c());
      }
    });
  }

  void take(std::size_t layer, ByteView tensor, std::span<std::byte> keys,
            std::span<std::byte> values) {
    const Sizes sizes(cache_, layer);
    if (!options_.cpu) {
      for (std::size_t row = 0; row < sizes.tokens * sizes.heads; ++row) {
        std::memcpy(&keys[row * sizes.k], &tensor[row * sizes.c()], sizes.k);
        std::memcpy(&values[row * sizes.v], &tensor[row * sizes.c() + sizes.k], sizes.v);
      }
      return;
    }
    each_page(sizes, [&](std::size_t first, std::size_t head) {
      for (std::size_t i = 0; i < block(); ++i) {
        const std::size_t row = (first + i) * sizes.heads + head;
        std::memcpy(&page_[i * sizes.c()], &tensor[row * sizes.c()], sizes.c());
      }
      if (options_.amx) {
        tile(sizes, [&](std::size_t row, std::size_t at) { copy(sizes, page_, at, rows_, row); });
        std::memcpy(&page_[block() * sizes.k], &rows_[block() * sizes.k], block() * sizes.v);
      } else {
        transpose(std::span(page_).first(block() * sizes.k), sizes.k / sizes.element, block(),
                  sizes.element, rows_);
      }
      for (std::size_t i = 0; i < block(); ++i) {
        const std::size_t row = (first + i) * sizes.heads + head;
        std::memcpy(&keys[row * sizes.k], &rows_[i * sizes.k], sizes.k);
        std::memcpy(&values[row * sizes.v], &page_[block() * sizes.k + i * sizes.v], sizes.v);
      }
    });
  }

 private:
  struct Sizes {
    Sizes(const LayoutCache& cache, std::size_t layer)
        : tokens(static_cast<std::size_t>(cache.token_count)),
          heads(static_cast<std::size_t>(cache.layers[layer].geometry.kv_heads)),
          element(dtype_size_bytes(cache.dtype)),
          k(static_cast<std::size_t>(cache.layers[layer].geometry.k_dim) * element),
          v(static_cast<std::size_t>(cache.layers[layer].geometry.v_dim) * element) {}
    std::size_t c() const { return k + v; }
    std::size_t tokens, heads, element, k, v;  // k, v: bytes of a head's row
  };

  std::size_t block() const { return static_cast<std::size_t>(options_.tokens); }

  static void copy(const Sizes& sizes, const Bytes& from, std::size_t i, Bytes& to, std::size_t j) {
    std::memcpy(&to[j * sizes.element], &from[i * sizes.element], sizes.element);
  }

  // For each element of K [block][dim] and V behind it, where the tiles of AMX have it: K as
  // [block / 16][dim / 2][16][2], pairs of dimensions together, V as [dim / 16][block / 2][16][2],
  // pairs of tokens.
  template <typename Use>
  void tile(const Sizes& sizes, const Use& use) const {
    const std::size_t dim = sizes.k / sizes.element, value_dim = sizes.v / sizes.element;
    const std::size_t behind = block() * dim;
    for (std::size_t i = 0; i < block(); ++i) {
      for (std::size_t j = 0; j < dim; ++j) {
        use(i * dim + j, (i / 16 * (dim / 2) + j / 2) * 32 + i % 16 * 2 + j % 2);
      }
      for (std::size_t j = 0; j < value_dim; ++j) {
        use(behind + i * value_dim + j,
            behind + (j / 16 * (block() / 2) + i / 2) * 32 + j % 16 * 2 + i % 2);
      }
    }
  }

  template <typename Use>
  void each_page(const Sizes& sizes, const Use& use) {
    if (options_.amx &&
        (block() % 32 != 0 || sizes.element != 2 || sizes.k % 32 != 0 || sizes.v % 32 != 0)) {
      fail_usage("--backend amx: blocks of a multiple of 32, bf16, dimensions of 16");
    }
    rows_.resize(block() * sizes.c());
    page_.resize(block() * sizes.c());
    turned_.resize(block() * sizes.c());
    for (std::size_t first = 0; first < sizes.tokens; first += block()) {
      for (std::size_t head = 0; head < sizes.heads; ++head) use(first, head);
    }
  }

  const LayoutCache& cache_;
  BlockOptions options_;
  Bytes rows_, page_, turned_;  // of a block and head
};

std::string file_of(std::uint32_t layer) {
  return fmt::format("model.layers.{}.self_attn.attn.safetensors", layer);
}

class VllmWriter : public LayoutWriter {
 public:
  VllmWriter(const LayoutCache& cache, const LayoutTarget& target, const BlockOptions& options)
      : cache_(cache),
        pages_(cache_, options),
        store_(target.folder),
        folder_(store_.path() + "/" + vllm_folder(cache_.tokens), target.overwrite) {}

  void write_layer(std::size_t layer, ByteView keys, ByteView values) override {
    tensor_.resize(keys.size() + values.size());
    pages_.put(layer, keys, values, tensor_);
    const Bytes header = safetensors_header(
        {{"kv_cache", safetensors_name(cache_.dtype), pages_.shape(layer), tensor_.size()}},
        {{"kvtools", "vllm 1"}, {"fingerprint", cache_.model.fingerprint}});
    Output output = folder_.file(file_of(cache_.layers[layer].index));
    output.write(header, tensor_);
    output.commit();
  }
  void commit() override { folder_.commit(); }

 private:
  const LayoutCache cache_;
  Pages pages_;
  StoreFolder store_;
  NewFolder folder_;
  Bytes tensor_;
};

class VllmReader : public LayoutReader {
 public:
  VllmReader(const std::string& path, const LayoutCache& wanted, const BlockOptions& options)
      : path_(path), pages_(cache_, options) {
    while (path_.size() > 1 && path_.ends_with('/')) path_.pop_back();
    cache_ = wanted;
    require_layers(path_, cache_.layers, [this](std::uint32_t layer) {
      return std::filesystem::exists(path_ + "/" + file_of(layer));
    });
    // All headers, before memory is taken for what the first one promises.
    for (std::size_t layer = 0; layer < cache_.layers.size(); ++layer) {
      const SafetensorsFile file(name_of(layer));
      const SafetensorsEntry& tensor = tensor_of(file, layer);
      if (layer == 0) {
        cache_.token_count = tensor.shape.empty() ? 0 : tensor.shape[0];
        require_token_count(name_of(0), cache_.token_count);
        if (options.cpu && cache_.token_count % options.tokens != 0) {
          fail_input("{}: {} tokens are no whole blocks of {}; give --block", name_of(0),
                     cache_.token_count, options.tokens);
        }
        cache_.dtype = safetensors_dtype(tensor.dtype, name_of(0));
      }
      require_shape(name_of(layer), tensor.shape, pages_.shape(layer));
      if (tensor.dtype != safetensors_name(cache_.dtype)) {
        fail_input("{}: dtype {}, where layer {} has {}", name_of(layer), tensor.dtype,
                   cache_.layers[0].index, safetensors_name(cache_.dtype));
      }
      require_fingerprint(file, layer);
    }
  }

  void take_tokens(std::span<const std::int32_t> ids) override {
    LayoutReader::take_tokens(ids);
    const std::string found = std::filesystem::path(path_).filename();
    const std::string wanted = vllm_folder(cache_.tokens);
    if (found != wanted) {
      fail_input("{}: is not of these {} tokens, whose folder is {}", path_, cache_.token_count,
                 wanted);
    }
  }

  void read_layer(std::size_t layer, std::span<std::byte> keys,
                  std::span<std::byte> values) override {
    const SafetensorsFile file(name_of(layer));
    const SafetensorsEntry& tensor = tensor_of(file, layer);
    if (tensor.bytes.size() != keys.size() + values.size()) {
      fail_input("{}: was changed while it was read", name_of(layer));
    }
    pages_.take(layer, tensor.bytes, keys, values);
  }

 private:
  std::string name_of(std::size_t layer) const {
    return path_ + "/" + file_of(cache_.layers[layer].index);
  }
  const SafetensorsEntry& tensor_of(const SafetensorsFile& file, std::size_t layer) const {
    const SafetensorsEntry* tensor = file.find("kv_cache");
    if (!tensor) fail_input("{}: has no tensor kv_cache", name_of(layer));
    return *tensor;
  }
  void require_fingerprint(const SafetensorsFile& file, std::size_t layer) const {
    const auto at = file.metadata().find("fingerprint");
    if (at == file.metadata().end() || at->second == cache_.model.fingerprint) return;
    fail_input("{}: made with model {}, not with {} ({})", name_of(layer), at->second,
               cache_.model.fingerprint, cache_.model.name);
  }

  std::string path_;
  Pages pages_;
};

}  // namespace

Layout vllm_layout() {
  return {.name = "vllm",
          .folder = true,
          .needs_tokens = true,
          .from_first_token = true,
          .blocks = BlockOptions{.tokens = 128, .cpu = true},
          .dtypes = {DType::kBF16, DType::kF16, DType::kF32},
          .writer = [](const LayoutCache& cache, const LayoutTarget& target,
                       const LayoutOptions& options) -> std::unique_ptr<LayoutWriter> {
            return std::make_unique<VllmWriter>(cache, target, *options.blocks);
          },
          .reader = [](const std::string& path, const LayoutCache& wanted,
                       const LayoutOptions& options) -> std::unique_ptr<LayoutReader> {
            return std::make_unique<VllmReader>(path, wanted, *options.blocks);
          }};
}

}  // namespace kv
