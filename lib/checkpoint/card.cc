#include "kv/checkpoint/card.hh"

#include <nlohmann/json.hpp>

#include <array>

namespace kv {
namespace {

using nlohmann::ordered_json;

constexpr std::array<DType, 3> kCardTypes = {DType::kF32, DType::kBF16, DType::kF8E4M3};

struct Totals {
  std::int64_t parameters = 0;
  std::uint64_t size_bytes = 0;
};

Totals totals_of(const Checkpoint& checkpoint) {
  Totals totals;
  for (const std::string& name : checkpoint.weight_names()) {
    const WeightView& view = checkpoint.weight(name);
    totals.parameters += view.count();
    totals.size_bytes += view.bytes.size();
  }
  return totals;
}

std::uint64_t cache_bytes_per_token(const ModelConfig& config, DType dtype) {
  Meta meta;
  meta.layers = layers_of(config);
  meta.dtype = dtype;
  return meta.bytes_per_token();
}

const char* scaling_name(Rope::Scaling scaling) {
  static constexpr std::array<const char*, 4> kNames = {"none", "linear", "llama3", "yarn"};
  return kNames[static_cast<std::size_t>(scaling)];
}

// Runs of equal layers, "0-29".
struct Run {
  std::size_t first, last;
};
std::vector<Run> runs_of(const std::vector<LayerGeometry>& layers) {
  std::vector<Run> runs;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (!runs.empty() && layers[i] == layers[runs.back().first]) {
      runs.back().last = i;
    } else {
      runs.push_back({i, i});
    }
  }
  return runs;
}

}  // namespace

ModelIdentity identity_of(const Checkpoint& checkpoint, const std::string& tokenizer_fingerprint) {
  const Adapter* adapter = checkpoint.adapter();
  return {checkpoint.config().name,
          checkpoint.config().architecture,
          checkpoint.fingerprint(),
          tokenizer_fingerprint,
          adapter ? adapter->fingerprint : "",
          adapter ? adapter->base_fingerprint : ""};
}

std::vector<LayerMeta> layers_of(const ModelConfig& config) {
  std::vector<LayerMeta> layers;
  for (const LayerGeometry& geometry : config.layers) {
    layers.push_back({static_cast<std::uint32_t>(layers.size()), geometry, 0});
  }
  return layers;
}

std::string card_text(const Checkpoint& checkpoint) {
  const ModelConfig& config = checkpoint.config();
  const Totals totals = totals_of(checkpoint);
  std::string text;
  const auto row = [&](const char* label, const std::string& value) {
    text += fmt::format("{:<13} {}\n", label, value);
  };
  row("model", config.name);
  row("family", config.architecture);
  row("file", checkpoint.path());
  row("parameters",
      fmt::format("{:.1f} M in {:.1f} MB of weights", static_cast<double>(totals.parameters) / 1e6,
                  static_cast<double>(totals.size_bytes) / 1e6));
  row("geometry", fmt::format("{} layers, hidden {}, {} query heads, MLP {}, vocabulary {}",
                              config.layers.size(), config.hidden, config.query_heads,
                              config.intermediate, config.vocab));
  for (const Run& run : runs_of(config.layers)) {
    const LayerGeometry& layer = config.layers[run.first];
    row(fmt::format("layers {}-{}", run.first, run.last).c_str(),
        fmt::format("{} KV heads, K {} V {}, {}, RoPE theta {} scaling {}", layer.kv_heads,
                    layer.k_dim, layer.v_dim,
                    layer.window > 0 ? fmt::format("window {}", layer.window) : "full attention",
                    layer.rope.theta, scaling_name(layer.rope.scaling)));
  }
  row("context", fmt::format("{} tokens", config.context));
  std::string sizes;
  for (const DType dtype : kCardTypes) {
    sizes += fmt::format("{}{} B {}", sizes.empty() ? "" : ", ",
                         cache_bytes_per_token(config, dtype), dtype_name(dtype));
  }
  row("KV a token", sizes);
  row("fingerprint", checkpoint.fingerprint());
  if (const Adapter* adapter = checkpoint.adapter()) {
    row("adapter",
        fmt::format("{}, rank {}, alpha {}, {:.2f} M parameters in layers {}-{}", adapter->path,
                    adapter->rank, adapter->alpha, static_cast<double>(adapter->parameters) / 1e6,
                    adapter->first_layer, adapter->last_layer));
    row("", "fingerprint " + adapter->fingerprint);
    row("base", fmt::format("{}, fingerprint {}", adapter->base_name, adapter->base_fingerprint));
  }
  row("licence", config.licence.empty() ? "not named in the file" : config.licence);
  return text;
}

std::string card_json(const Checkpoint& checkpoint) {
  const ModelConfig& config = checkpoint.config();
  const Totals totals = totals_of(checkpoint);
  ordered_json card = {{"model", config.name},
                       {"family", config.architecture},
                       {"file", checkpoint.path()},
                       {"parameters", totals.parameters},
                       {"weights_bytes", totals.size_bytes},
                       {"hidden", config.hidden},
                       {"query_heads", config.query_heads},
                       {"intermediate", config.intermediate},
                       {"vocab", config.vocab},
                       {"context", config.context}};
  card["layers"] = ordered_json::array();
  for (const LayerGeometry& layer : config.layers) {
    card["layers"].push_back({{"kv_heads", layer.kv_heads},
                              {"k_dim", layer.k_dim},
                              {"v_dim", layer.v_dim},
                              {"window", layer.window},
                              {"rope_theta", layer.rope.theta},
                              {"rope_scaling", scaling_name(layer.rope.scaling)}});
  }
  for (const DType dtype : kCardTypes) {
    card["kv_bytes_per_token"][std::string(dtype_name(dtype))] =
        cache_bytes_per_token(config, dtype);
  }
  card["fingerprint"] = checkpoint.fingerprint();
  if (const Adapter* adapter = checkpoint.adapter()) {
    card["adapter"] = {{"path", adapter->path},
                       {"fingerprint", adapter->fingerprint},
                       {"rank", adapter->rank},
                       {"alpha", adapter->alpha},
                       {"targets", adapter->targets},
                       {"parameters", adapter->parameters},
                       {"first_layer", adapter->first_layer},
                       {"last_layer", adapter->last_layer},
                       {"base", adapter->base_name},
                       {"base_fingerprint", adapter->base_fingerprint}};
  }
  card["licence"] = config.licence;
  return card.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace kv
