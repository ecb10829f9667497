// npy: a folder for notebooks. NNN_k.npy and NNN_v.npy of each layer, [tokens][heads][dim];
// tokens.npy, where the ids are known; meta.json.

#include "kv/base/json.hh"
#include "kv/base/new_folder.hh"
#include "layouts.hh"
#include "npy_header.hh"
#include "piece_writer.hh"

#include <nlohmann/json.hpp>

#include <filesystem>

namespace kv {
namespace {

using format::Kind;
using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::uint64_t kMaxMetaBytes = 1u << 20;
constexpr int kMaxDepth = 8;

std::string file_of(std::uint32_t layer, Kind kind) {
  return fmt::format("{:03}_{}.npy", layer, kind == Kind::kK ? 'k' : 'v');
}

class NpyWriter : public LayoutWriter {
 public:
  NpyWriter(const LayoutCache& cache, const LayoutTarget& target)
      : cache_(cache), folder_(target.folder, target.overwrite), pieces_(target.threads) {}

  void write_layer(std::size_t layer, ByteView keys, ByteView values) override {
    const std::uint32_t index = cache_.layers[layer].index;
    pieces_.each(2, [&](std::size_t i) {
      const Kind kind = i == 0 ? Kind::kK : Kind::kV;
      write(file_of(index, kind), cache_.shape(layer, kind), i == 0 ? keys : values);
    });
  }

  void commit() override {
    if (!cache_.tokens.empty()) {
      const Bytes header = npy_header({"<i4", {cache_.token_count}});
      Output output = folder_.file("tokens.npy");
      output.write(header, std::as_bytes(std::span(cache_.tokens)));
      output.commit();
    }
    ordered_json meta = {{"format", "kvtools npy 1"},
                         {"model", cache_.model.name},
                         {"fingerprint", cache_.model.fingerprint},
                         {"tokenizer_fingerprint", cache_.model.tokenizer_fingerprint},
                         {"rope_applied", cache_.rope_applied},
                         {"token_count", cache_.token_count},
                         {"first_position", cache_.first_position}};
    meta["layers"] = ordered_json::array();
    for (const LayerMeta& layer : cache_.layers) {
      meta["layers"].push_back({{"index", layer.index},
                                {"kv_heads", layer.geometry.kv_heads},
                                {"k_dim", layer.geometry.k_dim},
                                {"v_dim", layer.geometry.v_dim},
                                {"rope_theta", layer.geometry.rope.theta}});
    }
    const std::string text =
        meta.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
    folder_.write("meta.json", as_bytes(text));
    folder_.commit();
  }

 private:
  void write(const std::string& name, const TensorView& shape, ByteView rows) const {
    const Bytes header =
        npy_header({npy_descr(cache_.dtype), {shape.shape.begin(), shape.shape.end()}});
    Output output = folder_.file(name);
    output.write(header, rows);
    output.commit();
  }

  const LayoutCache cache_;
  NewFolder folder_;
  PieceWriter pieces_;
};

// One array of the folder.
struct NpyArray {
  explicit NpyArray(const std::string& path) : name(path) {
    const Input input = Input::open(path);
    if (!input.size_bytes()) fail_input("{}: must be a regular file", path);
    mapping = input.map();
    ByteReader reader(mapping.bytes(), path);
    header = read_npy_header(reader, path);
    data = mapping.bytes().subspan(reader.position());
  }

  std::string name;
  Mapping mapping;
  NpyHeader header;
  ByteView data;
};

class NpyReader : public LayoutReader {
 public:
  NpyReader(std::string folder, const LayoutCache& wanted) : folder_(std::move(folder)) {
    cache_ = wanted;
    read_meta();
    require_layers(folder_, cache_.layers, [this](std::uint32_t layer) {
      return std::filesystem::exists(folder_ + "/" + file_of(layer, Kind::kK));
    });
    cache_.dtype = dtype_of(NpyArray(path_of(0, Kind::kK)));
    // Before memory is taken for what meta.json promises.
    for (std::size_t layer = 0; layer < cache_.layers.size(); ++layer) {
      for (const Kind kind : {Kind::kK, Kind::kV}) checked(layer, kind);
    }
    const std::string tokens = folder_ + "/tokens.npy";
    if (std::filesystem::exists(tokens)) read_tokens(NpyArray(tokens));
  }

  void read_layer(std::size_t layer, std::span<std::byte> keys,
                  std::span<std::byte> values) override {
    read(layer, Kind::kK, keys);
    read(layer, Kind::kV, values);
  }

 private:
  std::string path_of(std::size_t layer, Kind kind) const {
    return folder_ + "/" + file_of(cache_.layers[layer].index, kind);
  }

  void read_meta() {
    const std::string name = folder_ + "/meta.json";
    const Bytes bytes = Input::open(name).read_all(kMaxMetaBytes);
    if (json_too_deep(as_text(bytes), kMaxDepth)) fail_input("{}: nested too deeply", name);
    const json meta = json::parse(as_text(bytes), nullptr, /*allow_exceptions=*/false);
    const auto whole = [&](const char* key) {
      if (!meta.contains(key) || !meta[key].is_number_unsigned() ||
          meta[key].get<std::uint64_t>() > format::kMaxInteger) {
        fail_input("{}: \"{}\" is missing or no whole number", name, key);
      }
      return meta[key].get<std::int64_t>();
    };
    if (!meta.is_object() || meta.value("format", json()) != "kvtools npy 1") {
      fail_input("{}: \"format\" is not \"kvtools npy 1\"", name);
    }
    if (!meta.contains("rope_applied") || !meta["rope_applied"].is_boolean()) {
      fail_input("{}: \"rope_applied\" is missing or neither true nor false", name);
    }
    cache_.rope_applied = meta["rope_applied"].get<bool>();
    cache_.token_count = whole("token_count");
    cache_.first_position = whole("first_position");
    require_token_count(name, cache_.token_count);
    if (meta.contains("fingerprint") && meta["fingerprint"].is_string()) {
      const auto& fingerprint = meta["fingerprint"].get_ref<const std::string&>();
      if (!fingerprint.empty() && fingerprint != cache_.model.fingerprint) {
        fail_input("{}: made with model {}, not with {} ({})", name, fingerprint,
                   cache_.model.fingerprint, cache_.model.name);
      }
    }
  }

  void read_tokens(const NpyArray& array) {
    require_shape(array.name, array.header.shape, {{cache_.token_count}});
    const auto count = static_cast<std::size_t>(cache_.token_count);
    if (array.header.descr == "<i4") {
      cache_.tokens.resize(count);
      std::memcpy(cache_.tokens.data(), array.data.data(), array.data.size());
    } else if (array.header.descr == "<i8") {
      cache_.tokens = ids_of_int64(array.data, array.name);
    } else {
      fail_input("{}: elements '{}'; ids are <i4 or <i8", array.name, array.header.descr);
    }
  }

  static DType dtype_of(const NpyArray& array) { return npy_dtype(array.header.descr, array.name); }
  NpyArray checked(std::size_t layer, Kind kind) const {
    NpyArray array(path_of(layer, kind));
    require_shape(array.name, array.header.shape, cache_.shape(layer, kind).shape);
    dtype_of(array);
    return array;
  }
  void read(std::size_t layer, Kind kind, std::span<std::byte> to) const {
    const NpyArray array = checked(layer, kind);
    convert(array.data, dtype_of(array), to, cache_.dtype);
  }

  std::string folder_;
};

}  // namespace

Layout npy_layout() {
  return {.name = "npy",
          .folder = true,
          .can_leave_rope = true,
          .default_dtype = DType::kF32,
          .dtypes = {DType::kF32, DType::kF16},
          .writer = [](const LayoutCache& cache, const LayoutTarget& target,
                       const LayoutOptions&) -> std::unique_ptr<LayoutWriter> {
            return std::make_unique<NpyWriter>(cache, target);
          },
          .reader = [](const std::string& path, const LayoutCache& wanted,
                       const LayoutOptions&) -> std::unique_ptr<LayoutReader> {
            return std::make_unique<NpyReader>(path, wanted);
          }};
}

}  // namespace kv
