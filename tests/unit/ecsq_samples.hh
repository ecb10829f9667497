#pragma once
// Rows and members for tests of the codecs `ecsq` and `thirds`, on the way there and back.

#include "container_samples.hh"
#include "kv/codec/ecsq_tile.hh"
#include "kv/codec/transcode.hh"
#include "lossy_samples.hh"

#include <cmath>
#include <span>
#include <string>
#include <vector>

namespace kv::samples {

inline TensorView view_of(const std::vector<float>& values, std::int64_t tokens,
                          std::int64_t heads = 1) {
  const auto count = static_cast<std::int64_t>(values.size());
  return {DType::kF32, {tokens, heads, count / tokens / heads}, std::as_bytes(std::span(values))};
}

inline std::vector<float> decoded(const std::vector<Bytes>& data, const TensorView& shape) {
  std::vector<float> out(static_cast<std::size_t>(shape.shape[0] * shape.row_values()), -7.0f);
  const std::vector<ByteView> qualities(data.begin(), data.end());
  decode_ecsq(qualities, shape, "test", std::as_writable_bytes(std::span(out)));
  return out;
}

// Root of the mean square.
inline double deviation(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

inline double error(const std::vector<float>& a, const std::vector<float>& b) {
  std::vector<float> rest(a);
  for (std::size_t i = 0; i < rest.size(); ++i) rest[i] -= b[i];
  return deviation(rest);
}

inline std::string transcoded(const std::string& stream, const TranscodeOptions& options) {
  const MemoryFile file(stream);
  return written([&](Writer& writer) {
    TileSource source(file.path());
    transcode(source, writer, options);
  });
}

// A member of one tile a tensor, and E.
inline std::string member(std::int64_t tokens, DType dtype, Importance importance = {}) {
  Meta meta = lossy_meta(tokens, dtype);
  meta.hidden = 6;
  meta.hidden_layers = {1};
  return written([&](Writer& writer) {
    writer.begin_member(meta, ids(tokens), importance);
    for (const auto& [layer, kind] : meta.tensors()) {
      const LossyTile tile(meta, kind, layer);
      writer.write_tile(tile.header, tile.bytes);
    }
    writer.end_member();
  });
}

inline const TranscodeOptions kRaw = {.codec = &codec_by_name("raw")};

}  // namespace kv::samples
