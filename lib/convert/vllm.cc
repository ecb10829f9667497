// vllm: the folder in which the ExampleConnector of vLLM looks for the whole blocks of a prompt,
// DIR/MD5/model.layers.N.self_attn.attn.safetensors with one tensor "kv_cache" [tokens][heads][C].
// What moves rows into that tensor is in vllm_pages.cc.

#include "kv/base/new_folder.hh"
#include "kv/checkpoint/safetensors.hh"
#include "kv/checkpoint/safetensors_out.hh"
#include "kv/convert/engine_keys.hh"
#include "layouts.hh"
#include "piece_writer.hh"
#include "vllm_pages.hh"

#include <filesystem>

namespace kv {
namespace {

std::string file_of(std::uint32_t layer) {
  return fmt::format("model.layers.{}.self_attn.attn.safetensors", layer);
}

class VllmWriter : public LayoutWriter {
 public:
  VllmWriter(const LayoutCache& cache, const LayoutTarget& target, const BlockOptions& options)
      : cache_(cache),
        chosen_(options.backend == VllmBackend::kHere),
        pages_(cache_, options.tokens, options.backend),
        store_(target.folder),
        folder_(store_.path() + "/" + vllm_folder(cache_.tokens), target.overwrite),
        pieces_(target.threads) {}

  void write_layer(std::size_t layer, ByteView keys, ByteView values) override {
    const std::vector<std::int64_t> shape = pages_.shape(layer);
    const std::size_t size = keys.size() + values.size();
    const Bytes header =
        safetensors_header({{"kv_cache", safetensors_name(cache_.dtype), shape, size}},
                           {{"kvtools", "vllm 2"},
                            {"fingerprint", cache_.model.fingerprint},
                            {"backend", std::string(vllm_backend_name(pages_.backend()))},
                            {"block", std::to_string(pages_.block())}});
    Output output = folder_.file(file_of(cache_.layers[layer].index));
    output.write(header);
    const std::size_t token =
        static_cast<std::size_t>(shape[1] * shape[2]) * dtype_size_bytes(cache_.dtype);
    pieces_.write(output, header.size(), size, static_cast<std::size_t>(pages_.block()) * token,
                  [&](std::size_t begin, std::span<std::byte> to) {
                    pages_.put(layer, keys, values, begin / token, to);
                  });
    output.commit();
  }
  std::string made_for() const override {
    if (!chosen_) return {};
    const bool amx = pages_.backend() == VllmBackend::kAmx;
    return amx ? "processors with AMX, as this one" : "processors without AMX, as this one";
  }
  void commit() override { folder_.commit(); }

 private:
  const LayoutCache cache_;
  bool chosen_;
  VllmPages pages_;
  StoreFolder store_;
  NewFolder folder_;
  PieceWriter pieces_;
};

class VllmReader : public LayoutReader {
 public:
  VllmReader(const std::string& path, const LayoutCache& wanted, const BlockOptions& options)
      : path_(path) {
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
        cache_.dtype = safetensors_dtype(tensor.dtype, name_of(0));
        pages_.emplace(cache_, options.tokens, backend_of(file, options));
        if (pages_->backend() != VllmBackend::kGpu && cache_.token_count % options.tokens != 0) {
          fail_input("{}: {} tokens are no whole blocks of {}; give --block", name_of(0),
                     cache_.token_count, options.tokens);
        }
      }
      require_shape(name_of(layer), tensor.shape, pages_->shape(layer));
      if (tensor.dtype != safetensors_name(cache_.dtype)) {
        fail_input("{}: dtype {}, where layer {} has {}", name_of(layer), tensor.dtype,
                   cache_.layers[0].index, safetensors_name(cache_.dtype));
      }
      require_metadata(file, layer, "fingerprint", cache_.model.fingerprint, cache_.model.name);
      require_metadata(file, layer, "backend", std::string(vllm_backend_name(pages_->backend())),
                       "--backend");
      require_metadata(file, layer, "block", std::to_string(options.tokens), "--block");
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
    pages_->take(layer, tensor.bytes, keys, values);
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
  // What files of ours say, where nothing else is asked for.
  VllmBackend backend_of(const SafetensorsFile& file, const BlockOptions& options) const {
    const auto at = file.metadata().find("backend");
    if (options.backend != VllmBackend::kHere || at == file.metadata().end()) {
      return options.backend;
    }
    for (const VllmBackend known : {VllmBackend::kCpu, VllmBackend::kAmx, VllmBackend::kGpu}) {
      if (at->second == vllm_backend_name(known)) return known;
    }
    fail_input("{}: backend '{}' is not known", name_of(0), at->second);
  }
  // Files of the engine's own have none.
  void require_metadata(const SafetensorsFile& file, std::size_t layer, const char* key,
                        const std::string& wanted, std::string_view what) const {
    const auto at = file.metadata().find(key);
    if (at == file.metadata().end() || at->second == wanted) return;
    fail_input("{}: made with {} {}, not with {} ({})", name_of(layer), key, at->second, wanted,
               what);
  }

  std::string path_;
  std::optional<VllmPages> pages_;
};

}  // namespace

Layout vllm_layout() {
  return {.name = "vllm",
          .folder = true,
          .needs_tokens = true,
          .from_first_token = true,
          .blocks = BlockOptions{.tokens = 128},
          .backends = true,
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
