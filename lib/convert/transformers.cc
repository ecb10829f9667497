// transformers: one safetensors file with the tensors that its DynamicCache holds, keys.N and
// values.N [1][heads][tokens][dim] of layer N, and input_ids [1][tokens];
// examples/transformers_cache.py makes a cache of it and back.

#include "kv/checkpoint/safetensors.hh"
#include "kv/checkpoint/safetensors_out.hh"
#include "layouts.hh"
#include "piece_writer.hh"
#include "transpose.hh"

#include <charconv>

namespace kv {
namespace {

using format::Kind;

std::string tensor_name(std::uint32_t layer, Kind kind) {
  return fmt::format("{}.{}", kind == Kind::kK ? "keys" : "values", layer);
}

std::vector<std::int64_t> tensor_shape(const LayoutCache& cache, std::size_t layer, Kind kind) {
  const std::array<std::int64_t, 3> shape = cache.shape(layer, kind).shape;
  return {1, shape[1], shape[0], shape[2]};
}

class TransformersWriter : public LayoutWriter {
 public:
  TransformersWriter(const LayoutCache& cache, Output& file, int threads)
      : cache_(cache), file_(file), pieces_(threads) {
    std::vector<SafetensorsTensor> tensors;
    std::vector<std::int64_t> ids(cache.tokens.begin(), cache.tokens.end());
    if (!ids.empty()) {
      tensors.push_back({"input_ids", "I64", {1, cache.token_count}, ids.size() * sizeof(ids[0])});
    }
    for (std::size_t layer = 0; layer < cache.layers.size(); ++layer) {
      for (const Kind kind : {Kind::kK, Kind::kV}) {
        tensors.push_back({tensor_name(cache.layers[layer].index, kind),
                           safetensors_name(cache.dtype), tensor_shape(cache, layer, kind),
                           cache.size_bytes(layer, kind)});
      }
    }
    const Bytes header =
        safetensors_header(tensors, {{"format", "pt"},
                                     {"kvtools", "transformers 1"},
                                     {"model", cache.model.name},
                                     {"fingerprint", cache.model.fingerprint},
                                     {"first_position", std::to_string(cache.first_position)}});
    file_.write(header, std::as_bytes(std::span(ids)));
    at_ = file_.written_bytes();
  }

  void write_layer(std::size_t layer, ByteView keys, ByteView values) override {
    write(layer, Kind::kK, keys);
    write(layer, Kind::kV, values);
  }
  void commit() override {}

 private:
  void write(std::size_t layer, Kind kind, ByteView rows) {
    const TensorView shape = cache_.shape(layer, kind);
    const auto tokens = static_cast<std::size_t>(shape.shape[0]);
    const std::size_t token = shape.row_bytes();
    const std::size_t head =
        static_cast<std::size_t>(shape.shape[2]) * dtype_size_bytes(shape.dtype);
    pieces_.write(file_, at_, rows.size(), head, [&](std::size_t begin, std::span<std::byte> to) {
      for (std::size_t at = 0; at < to.size(); at += head) {
        const std::size_t row = (begin + at) / head;
        std::memcpy(&to[at], &rows[row % tokens * token + row / tokens * head], head);
      }
    });
    at_ += rows.size();
  }

  const LayoutCache cache_;
  Output& file_;
  PieceWriter pieces_;
  std::uint64_t at_ = 0;  // in the file
};

class TransformersReader : public LayoutReader {
 public:
  TransformersReader(const std::string& path, const LayoutCache& wanted)
      : path_(path), file_(path) {
    cache_ = wanted;
    require_layers(path, cache_.layers, [this](std::uint32_t layer) {
      return file_.find(tensor_name(layer, Kind::kK)) != nullptr;
    });
    const SafetensorsEntry& first = tensor(cache_.layers[0].index, Kind::kK);
    if (first.shape.size() != 4) fail_input("{}: {}: no four dimensions", path, first.name);
    if (first.shape[0] != 1) {
      fail_input("{}: {}: a batch of {} sequences; save one", path, first.name, first.shape[0]);
    }
    cache_.token_count = first.shape[2];
    require_token_count(path, cache_.token_count);
    cache_.dtype = safetensors_dtype(first.dtype, path + ": " + first.name);
    for (std::size_t layer = 0; layer < cache_.layers.size(); ++layer) {
      for (const Kind kind : {Kind::kK, Kind::kV}) checked(layer, kind);
    }
    read_metadata();
    if (const SafetensorsEntry* ids = file_.find("input_ids")) {
      const std::string place = path + ": input_ids";
      require_shape(place, ids->shape, {{1, cache_.token_count}});
      if (ids->dtype != "I64") fail_input("{}: dtype {}, not I64", place, ids->dtype);
      cache_.tokens = ids_of_int64(ids->bytes, place);
    }
  }

  void read_layer(std::size_t layer, std::span<std::byte> keys,
                  std::span<std::byte> values) override {
    read(layer, Kind::kK, keys);
    read(layer, Kind::kV, values);
  }

 private:
  const SafetensorsEntry& tensor(std::uint32_t layer, Kind kind) const {
    const std::string name = tensor_name(layer, kind);
    const SafetensorsEntry* found = file_.find(name);
    if (!found) fail_input("{}: has no tensor {}", path_, name);
    return *found;
  }
  const SafetensorsEntry& checked(std::size_t layer, Kind kind) const {
    const SafetensorsEntry& found = tensor(cache_.layers[layer].index, kind);
    require_shape(path_ + ": " + found.name, found.shape, tensor_shape(cache_, layer, kind));
    safetensors_dtype(found.dtype, path_ + ": " + found.name);
    return found;
  }
  void read(std::size_t layer, Kind kind, std::span<std::byte> to) {
    const SafetensorsEntry& found = checked(layer, kind);
    const DType dtype = safetensors_dtype(found.dtype, path_);
    const TensorView shape = cache_.shape(layer, kind);
    turned_.resize(found.bytes.size());
    transpose(found.bytes, static_cast<std::size_t>(shape.shape[1]),
              static_cast<std::size_t>(shape.shape[0]),
              static_cast<std::size_t>(shape.shape[2]) * dtype_size_bytes(dtype), turned_);
    convert(turned_, dtype, to, cache_.dtype);
  }

  void read_metadata() {
    const auto text = [this](const char* key) -> std::string {
      const auto at = file_.metadata().find(key);
      return at == file_.metadata().end() ? "" : at->second;
    };
    const std::string fingerprint = text("fingerprint"), position = text("first_position");
    if (!fingerprint.empty() && fingerprint != cache_.model.fingerprint) {
      fail_input("{}: made with model {}, not with {} ({})", path_, fingerprint,
                 cache_.model.fingerprint, cache_.model.name);
    }
    if (position.empty()) return;
    std::uint32_t first = 0;
    const auto [end, error] =
        std::from_chars(position.data(), position.data() + position.size(), first);
    if (error != std::errc() || end != position.data() + position.size()) {
      fail_input("{}: first_position '{}' is no position", path_, position);
    }
    cache_.first_position = first;
  }

  std::string path_;
  SafetensorsFile file_;
  Bytes turned_;
};

}  // namespace

Layout transformers_layout() {
  return {.name = "transformers",
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2},
          .writer = [](const LayoutCache& cache, const LayoutTarget& target,
                       const LayoutOptions&) -> std::unique_ptr<LayoutWriter> {
            return std::make_unique<TransformersWriter>(cache, *target.file, target.threads);
          },
          .reader = [](const std::string& path, const LayoutCache& wanted,
                       const LayoutOptions&) -> std::unique_ptr<LayoutReader> {
            return std::make_unique<TransformersReader>(path, wanted);
          }};
}

}  // namespace kv
