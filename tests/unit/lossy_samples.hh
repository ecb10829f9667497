#pragma once
// A member as lossy codecs meet it: channels with means and scales of their own, a token that
// stands out, rows that are no multiple of 32. Every value is a function of its place.

#include "kv/codec/codec.hh"

#include <vector>

namespace kv::samples {

inline Meta lossy_meta(std::int64_t tokens, DType dtype = DType::kBF16, std::int64_t k_dim = 20,
                       std::int64_t v_dim = 17) {
  Meta meta;
  meta.model.name = "lossy";
  meta.model.architecture = "llama";
  meta.dtype = dtype;
  meta.token_count = tokens;
  meta.first_position = 1000;
  for (std::uint32_t layer = 0; layer < 3; ++layer) {
    meta.layers.push_back(
        {.index = layer,
         .geometry = {.kv_heads = 2, .k_dim = k_dim, .v_dim = v_dim, .rope = {.theta = 500}}});
  }
  meta.layers[1].geometry.rope.scaling = Rope::Scaling::kLinear;
  meta.layers[1].geometry.rope.factor = 4;
  meta.layers[2].geometry.rope.attention_factor = 1.25;
  return meta;
}

// [tokens][width], near enough to normal.
inline std::vector<float> lossy_values(std::size_t tokens, std::size_t width, std::uint32_t seed) {
  std::vector<float> values;
  std::uint32_t noise = seed * 2654435761u + 1;
  for (std::size_t i = 0; i < tokens * width; ++i) {
    float sum = -2;
    for (int j = 0; j < 4; ++j) {
      noise = noise * 1664525u + 1013904223u;
      sum += static_cast<float>(noise >> 8) * 0x1p-24f;
    }
    const std::size_t channel = i % width;
    const float scale = static_cast<float>(1u << (channel % 5)) / 8,
                mean = channel % 7 == 3 ? 6 : 0;
    const float loud = i / width == 2 ? 5.0f : 1.0f;
    values.push_back((mean + sum * scale) * loud);
  }
  return values;
}

// A tile of all of the member's tokens, with its elements.
struct LossyTile {
  format::TileHeader header;
  TensorView view;
  Bytes bytes;
  std::vector<float> values;  // as the elements have them

  LossyTile(const Meta& meta, format::Kind kind, std::uint32_t layer,
            const std::vector<float>& given = {}) {
    header.kind = kind;
    header.dtype = meta.dtype;
    header.layer = layer;
    header.token_count = static_cast<std::uint32_t>(meta.token_count);
    view = meta.shape_of(header);
    const auto width = static_cast<std::size_t>(view.row_values());
    values = given.empty() ? lossy_values(header.token_count, width,
                                          2 * layer + static_cast<std::uint32_t>(kind))
                           : given;
    bytes.resize(values.size() * dtype_size_bytes(meta.dtype));
    convert(std::as_bytes(std::span(values)), DType::kF32, bytes, meta.dtype);
    convert(bytes, meta.dtype, std::as_writable_bytes(std::span(values)), DType::kF32);
    view.bytes = bytes;
  }
  LossyTile(const LossyTile&) = delete;
  LossyTile& operator=(const LossyTile&) = delete;

  // There and back.
  std::vector<float> coded(const Meta& meta, const Codec& encoder, Coded* kept = nullptr) const {
    const Coded coded = encoder.encode_in(meta, header, view);
    Bytes out(bytes.size(), std::byte{0xAA});
    codec_by_id(coded.codec, "test").decode_in(meta, header, coded.data, "test", out);
    std::vector<float> back(values.size());
    convert(out, meta.dtype, std::as_writable_bytes(std::span(back)), DType::kF32);
    if (kept) *kept = coded;
    return back;
  }
};

}  // namespace kv::samples
