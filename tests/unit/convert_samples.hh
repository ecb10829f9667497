#pragma once
// Small caches and the layouts that take them, for tests of lib/convert.

#include "kv/convert/convert.hh"

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

namespace kv::sample {

// A folder that is removed with all in it.
struct Folder {
  Folder() {
    std::string name = std::filesystem::temp_directory_path() / "kv_convert_XXXXXX";
    path = mkdtemp(name.data());
  }
  Folder(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path); }
  std::string operator/(const std::string& name) const { return path + "/" + name; }
  std::string path;
};

inline std::vector<LayerMeta> layers(std::size_t count, const LayerGeometry& geometry) {
  std::vector<LayerMeta> all;
  for (std::uint32_t i = 0; i < count; ++i) all.push_back({i, geometry, 0});
  return all;
}

// Of two layers that differ in all there is.
inline Meta meta(std::int64_t tokens, DType dtype) {
  Meta meta;
  meta.model = {"tiny", "llama", std::string(32, 'a'), std::string(32, 'b'), "", ""};
  meta.layers = {{0, {2, 8, 8, 0, {}}, 0}, {1, {3, 16, 4, 0, {.theta = 500.0}}, 0}};
  meta.dtype = dtype;
  meta.token_count = tokens;
  meta.chunks = {{"tiny", 0, tokens, false}};
  return meta;
}

inline std::vector<std::int32_t> ids(std::int64_t tokens) {
  std::vector<std::int32_t> all;
  for (std::int32_t i = 0; i < tokens; ++i) all.push_back((i * 37 + 11) % 97);
  return all;
}

// Numbers that 8 bits of mantissa hold, different at each place.
inline Bytes rows(const TensorView& shape, unsigned seed) {
  std::vector<float> values(static_cast<std::size_t>(shape.shape[0] * shape.row_values()));
  for (float& value : values) {
    seed = seed * 1664525u + 1013904223u;
    value = std::ldexp(static_cast<float>(static_cast<int>(seed >> 24) - 128), -5);
  }
  Bytes bytes(values.size() * dtype_size_bytes(shape.dtype));
  convert(std::as_bytes(std::span(values)), DType::kF32, bytes, shape.dtype);
  return bytes;
}

inline void write_cache(const std::string& path, const Meta& meta,
                        const std::vector<std::int32_t>& tokens, int members = 1) {
  Output output = Output::create(path, true);
  Writer writer(output);
  for (int member = 0; member < members; ++member) {
    writer.begin_member(meta, tokens);
    unsigned seed = 1;
    for (const auto& [layer, kind] : meta.tensors()) {
      TensorView view = meta.shape_of({.kind = kind, .dtype = meta.dtype, .layer = layer});
      view.shape[0] = meta.token_count;
      const Bytes bytes = rows(view, ++seed);
      view.bytes = bytes;
      writer.write_raw(kind, layer, view);
    }
    writer.end_member();
  }
  output.commit();
}

// All tensors of a kv file one after another, as f32.
struct Cache {
  Meta meta;
  std::vector<std::int32_t> tokens;
  std::vector<std::vector<float>> tensors;  // K and V of each layer
};

inline Cache read_cache(const std::string& path) {
  IndexedFile file(path);
  Cache cache{file.meta(0), file.tokens(0), {}};
  cache.tensors.resize(2 * cache.meta.layers.size());
  for (std::size_t entry = 0; entry < file.index(0).size(); ++entry) {
    const Tile tile = file.tile(0, entry);
    std::size_t layer = 0;
    while (cache.meta.layers[layer].index != tile.header.layer) ++layer;
    std::vector<float>& to =
        cache.tensors[2 * layer + (tile.header.kind == format::Kind::kV ? 1 : 0)];
    const ByteView bytes = tile.view(cache.meta).bytes;
    const std::size_t before = to.size(), count = bytes.size() / dtype_size_bytes(cache.meta.dtype);
    to.resize(before + count);
    convert(bytes, cache.meta.dtype, std::as_writable_bytes(std::span(to).subspan(before)),
            DType::kF32);
  }
  return cache;
}

inline double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    error += std::pow(static_cast<double>(a[i]) - static_cast<double>(b.at(i)), 2);
    norm += std::pow(static_cast<double>(a[i]), 2);
  }
  return std::sqrt(error / norm);
}

inline ExportReport export_to(const std::string& name, const std::string& from,
                              const std::string& to, const LayoutOptions& options = {}) {
  const Layout& layout = layout_by_name(name);
  TileSource source(from);
  if (layout.folder) {
    return export_cache(source, layout, {.file = nullptr, .folder = to}, options, 2);
  }
  Output output = Output::create(to, false);
  const ExportReport report = export_cache(source, layout, {.file = &output}, options, 2);
  output.commit();
  return report;
}

inline ImportOptions import_of(const Meta& meta) {
  ImportOptions import;
  import.model = meta.model;
  import.layers = meta.layers;
  import.vocab = 97;
  import.id = "tiny";
  import.threads = 2;
  return import;
}

inline void import_from(const std::string& name, const std::string& from, const std::string& to,
                        const ImportOptions& import, const LayoutOptions& options = {}) {
  Output output = Output::create(to, true);
  import_cache(from, layout_by_name(name), options, import, output);
  output.commit();
}

}  // namespace kv::sample
