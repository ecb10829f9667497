#include "kv/container/meta.hh"

#include "kv/container/meta_check.hh"

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

using format::Kind;

bool is_fingerprint(const std::string& text) {
  return text.empty() ||
         (text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string::npos);
}

std::string problem_of(const LayerMeta& layer) {
  const LayerGeometry& geometry = layer.geometry;
  const auto small = [](std::int64_t value) {
    return value >= 0 && value <= format::kMaxRowValues;
  };
  if (layer.index >= format::kMaxLayers || !small(geometry.kv_heads) || !small(geometry.k_dim) ||
      !small(geometry.v_dim) || !small(layer.latent_dim) || geometry.window < 0) {
    return "a number is beyond its limit";
  }
  if (layer.latent_dim == 0) {
    if (geometry.kv_heads == 0 || geometry.k_dim == 0 || geometry.v_dim == 0) {
      return "neither K and V nor L has a size";
    }
    if (geometry.k_dim > format::kMaxRowValues / geometry.kv_heads ||
        geometry.v_dim > format::kMaxRowValues / geometry.kv_heads) {
      return fmt::format("a token has more than {} values", format::kMaxRowValues);
    }
  }
  const Rope& rope = geometry.rope;
  for (const double value : {rope.theta, rope.factor, rope.low_freq_factor, rope.high_freq_factor,
                             rope.beta_fast, rope.beta_slow, rope.attention_factor}) {
    if (!std::isfinite(value)) return "a RoPE number is not finite";
  }
  if (rope.theta <= 0 || rope.factor <= 0) return "RoPE's theta or factor is not positive";
  return "";
}

std::string problem_of_chunks(const Meta& meta) {
  std::int64_t end = 0;
  for (const ChunkMeta& chunk : meta.chunks) {
    if (chunk.token_begin < end || chunk.token_count < 0 || chunk.token_begin > meta.token_count ||
        chunk.token_count > meta.token_count - chunk.token_begin) {
      return fmt::format("chunk {} overlaps another or leaves the member's {} tokens",
                         printable(chunk.id), meta.token_count);
    }
    end = chunk.token_begin + chunk.token_count;
  }
  return "";
}

std::string describe(const ModelIdentity& model) {
  std::string text = model.name.empty() ? "an unnamed model" : printable(model.name);
  if (!model.adapter.empty()) text += " with adapter " + printable(model.adapter);
  if (!model.fingerprint.empty()) text += fmt::format(" (fingerprint {})", model.fingerprint);
  return text;
}

}  // namespace

std::string kind_text(Kind kind) {
  switch (kind) {
    case Kind::kE:
    case Kind::kK:
    case Kind::kL:
    case Kind::kV:
      return std::string(1, static_cast<char>(kind));
  }
  return fmt::format("kind 0x{:02x}", static_cast<unsigned>(kind));
}

std::string problem_of(const Meta& meta) {
  const auto ascending = [](const auto& list, auto&& number) {
    return std::adjacent_find(list.begin(), list.end(), [&](const auto& a, const auto& b) {
             return number(a) >= number(b);
           }) == list.end();
  };
  if (!is_fingerprint(meta.model.fingerprint) || !is_fingerprint(meta.model.base_fingerprint) ||
      !is_fingerprint(meta.model.tokenizer_fingerprint)) {
    return "a fingerprint is neither empty nor 32 lower-case hexadecimal digits";
  }
  for (const LayerMeta& layer : meta.layers) {
    if (const std::string problem = problem_of(layer); !problem.empty()) {
      return fmt::format("layer {}: {}", layer.index, problem);
    }
  }
  if (!ascending(meta.layers, [](const LayerMeta& layer) { return layer.index; })) {
    return "layers are not ascending";
  }
  if (!ascending(meta.hidden_layers, [](std::uint32_t layer) { return layer; }) ||
      (!meta.hidden_layers.empty() && meta.hidden_layers.back() >= format::kMaxLayers)) {
    return "hidden_layers are not ascending";
  }
  if (meta.hidden < 0 || meta.hidden > format::kMaxRowValues ||
      (meta.hidden == 0 && !meta.hidden_layers.empty())) {
    return "hidden_layers need a hidden size";
  }
  if (meta.layers.empty() && meta.hidden_layers.empty()) return "there is no layer";
  if (meta.token_count < 0 || meta.token_count > static_cast<std::int64_t>(format::kMaxTokens) ||
      meta.first_position < 0 || meta.first_position > format::kMaxInteger) {
    return "token_count or first_position is beyond its limit";
  }
  if (meta.quality_layers < 1 || meta.quality_layers > format::kMaxQualityLayers) {
    return fmt::format("quality_layers is not from 1 to {}", format::kMaxQualityLayers);
  }
  return problem_of_chunks(meta);
}

TensorView Meta::shape_of(const format::TileHeader& tile) const {
  TensorView view;
  view.dtype = tile.dtype;
  const auto layer =
      std::lower_bound(layers.begin(), layers.end(), tile.layer,
                       [](const LayerMeta& a, std::uint32_t index) { return a.index < index; });
  const bool cached = layer != layers.end() && layer->index == tile.layer;
  const bool latent = cached && layer->latent_dim > 0;
  const std::int64_t count = tile.token_count;
  if (tile.kind == Kind::kK && cached && !latent) {
    view.shape = {count, layer->geometry.kv_heads, layer->geometry.k_dim};
  } else if (tile.kind == Kind::kV && cached && !latent) {
    view.shape = {count, layer->geometry.kv_heads, layer->geometry.v_dim};
  } else if (tile.kind == Kind::kL && latent) {
    view.shape = {count, 1, layer->latent_dim};
  } else if (tile.kind == Kind::kE &&
             std::binary_search(hidden_layers.begin(), hidden_layers.end(), tile.layer)) {
    view.shape = {count, 1, hidden};
  } else {
    fail_input("META declares no {} of layer {}", kind_text(tile.kind), tile.layer);
  }
  return view;
}

std::vector<std::pair<std::uint32_t, Kind>> Meta::tensors() const {
  std::vector<std::pair<std::uint32_t, Kind>> all;
  for (const LayerMeta& layer : layers) {
    if (layer.latent_dim > 0) {
      all.emplace_back(layer.index, Kind::kL);
    } else {
      all.emplace_back(layer.index, Kind::kK);
      all.emplace_back(layer.index, Kind::kV);
    }
  }
  for (const std::uint32_t layer : hidden_layers) all.emplace_back(layer, Kind::kE);
  std::sort(all.begin(), all.end());
  return all;
}

std::uint64_t Meta::bytes_per_token() const {
  std::int64_t values = 0;
  for (const LayerMeta& layer : layers) {
    values += layer.latent_dim > 0
                  ? layer.latent_dim
                  : layer.geometry.kv_heads * (layer.geometry.k_dim + layer.geometry.v_dim);
  }
  return static_cast<std::uint64_t>(values) * dtype_size_bytes(dtype);
}

void require_same_model(const Meta& meta, const std::string& place, const ModelIdentity& wanted) {
  const ModelIdentity& made = meta.model;
  const auto differ = [](const std::string& a, const std::string& b) {
    return !a.empty() && !b.empty() && a != b;
  };
  // Without a fingerprint (imported files) the name is all there is to go by.
  const bool other = made.fingerprint.empty() || wanted.fingerprint.empty()
                         ? made.name != wanted.name || made.adapter != wanted.adapter
                         : made.fingerprint != wanted.fingerprint;
  if (other) {
    fail_input("{}: made with {}, not with {}; give the model it was made with, or make it again",
               place, describe(made), describe(wanted));
  }
  if (differ(made.tokenizer_fingerprint, wanted.tokenizer_fingerprint)) {
    fail_input("{}: made with tokenizer {}, not with {}; give the model it was made with", place,
               made.tokenizer_fingerprint, wanted.tokenizer_fingerprint);
  }
}

}  // namespace kv
