#pragma once
// A profile for the member of lossy_samples.hh, without a calibration: of every shape that models
// have, and no better than it needs to be.

#include "kv/codec/cachegen_profile.hh"

namespace kv::samples {

inline CacheGenModel plain_model(std::size_t channel) {
  CacheGenModel model;
  model.offset = static_cast<std::int16_t>(channel % 7 == 3 ? 40 : -static_cast<int>(channel % 3));
  model.shift = static_cast<std::uint8_t>(channel % 4);
  model.symbols = static_cast<std::uint8_t>(4u << channel % 4);
  // Falling to both sides of the middle; the escape is as rare as can be.
  int left = 4096;
  const int middle = model.symbols / 2 - 1;
  for (int s = model.symbols - 1; s >= 0; --s) {
    const int away = s > middle ? s - middle : middle - s;
    const int share = s + 1 == model.symbols ? 1 : std::max(1, 600 >> away);
    model.frequencies[static_cast<std::size_t>(s)] = static_cast<std::uint16_t>(share);
    left -= share;
  }
  model.frequencies[static_cast<std::size_t>(middle)] =
      static_cast<std::uint16_t>(model.frequencies[static_cast<std::size_t>(middle)] + left);
  return model;
}

inline CacheGenProfile plain_profile(const Meta& meta, bool rotated) {
  std::vector<CacheGenProfile::Tensor> tensors;
  for (const auto& [layer, kind] : meta.tensors()) {
    CacheGenProfile::Tensor& tensor = tensors.emplace_back();
    tensor.layer = layer;
    tensor.kind = kind;
    const TensorView shape = meta.shape_of({.kind = kind, .layer = layer});
    tensor.channels = static_cast<std::uint32_t>(shape.row_values());
    tensor.steps = {0.25f, 0.75f};
    for (std::size_t i = 0; i < 3 * tensor.channels; ++i) tensor.models.push_back(plain_model(i));
  }
  return {2, rotated, std::move(tensors), "plain"};
}

}  // namespace kv::samples
