#include "lora_checkpoint.hh"

#include "kv/base/file.hh"
#include "kv/base/hash.hh"
#include "kv/checkpoint/dequantize.hh"
#include "kv/checkpoint/safetensors.hh"

#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace kv {
namespace {

constexpr std::uint64_t kMaxConfigBytes = 1u << 20;
constexpr std::string_view kWeight = ".weight";

std::string file_in(const std::string& folder, const char* name) {
  const std::string path = folder + "/" + name;
  if (access(path.c_str(), F_OK) != 0) fail_input("{}: no {} in the adapter", folder, name);
  return path;
}

// "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" -> the module and which of the
// two it is. A name of any other form has no module.
struct TensorName {
  std::string module;
  bool is_a = false;
};
TensorName tensor_name(std::string_view name) {
  constexpr std::string_view kPrefix = "base_model.model.";
  if (!name.starts_with(kPrefix)) return {};
  name.remove_prefix(kPrefix.size());
  for (const bool is_a : {true, false}) {
    const std::string_view end = is_a ? ".lora_A.weight" : ".lora_B.weight";
    if (name.ends_with(end)) return {std::string(name.substr(0, name.size() - end.size())), is_a};
  }
  return {};
}

// LoRA sits on linear layers; norms are vectors, and the embedding is looked up, not multiplied.
bool adaptable(const Checkpoint& base, const std::string& module) {
  const std::string name = module + std::string(kWeight);
  return module != "model.embed_tokens" && base.has_weight(name) &&
         base.weight(name).shape.size() == 2;
}

std::vector<float> values_of(const WeightView& view, const std::string& place) {
  std::vector<float> values(static_cast<std::size_t>(view.count()));
  dequantize(view.type, view.bytes.data(), values);
  if (!std::ranges::all_of(values, [](float value) { return std::isfinite(value); })) {
    fail_input("{}: tensor '{}' holds values that are not finite", place, view.name);
  }
  return values;
}

}  // namespace

LoraCheckpoint::LoraCheckpoint(std::unique_ptr<Checkpoint> base, const std::string& folder)
    : base_(std::move(base)) {
  std::string path = folder;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const std::string config_path = file_in(path, "adapter_config.json");
  const AdapterConfig config = parse_adapter_config(
      as_text(Input::open(config_path).read_all(kMaxConfigBytes)), config_path);
  read_tensors(file_in(path, "adapter_model.safetensors"), config);

  path_ = base_->path() + "+" + path;
  config_ = base_->config();
  config_.name += "+" + path.substr(path.rfind('/') + 1);
  adapter_.path = path;
  adapter_.rank = config.rank;
  adapter_.alpha = config.alpha;
  adapter_.targets = config.targets;
  adapter_.base_name = base_->config().name;
  adapter_.base_fingerprint = base_->fingerprint();
  adapter_.fingerprint = own_fingerprint("");
  adapter_.first_layer = adapter_.last_layer = -1;
  for (const auto& [name, product] : products_) {
    adapter_.parameters += static_cast<std::int64_t>(product.a.size() + product.b.size());
    const std::int64_t layer = layer_of_weight(name);
    if (layer < 0) continue;
    adapter_.last_layer = std::max(adapter_.last_layer, layer);
    adapter_.first_layer = adapter_.first_layer < 0 ? layer : std::min(adapter_.first_layer, layer);
  }
}

void LoraCheckpoint::read_tensors(const std::string& path, const AdapterConfig& config) {
  const SafetensorsFile file(path);
  if (file.entries().size() != file.tensors().size()) {
    fail_input("{}: holds tensors that are not f32, f16 or bf16", path);
  }
  if (const auto made_for = file.metadata().find("base_fingerprint");
      made_for != file.metadata().end() && made_for->second != base_->fingerprint()) {
    fail_input("{}: made for a model with fingerprint {}, but {} has {}", path, made_for->second,
               base_->path(), base_->fingerprint());
  }
  for (const WeightView& view : file.tensors()) {
    const TensorName name = tensor_name(view.name);
    if (name.module.empty()) {
      fail_input("{}: tensor '{}' is no lora_A or lora_B", path, view.name);
    }
    if (!adaptable(*base_, name.module)) {
      fail_input("{}: tensor '{}': {} has no such matrix", path, view.name, base_->path());
    }
    if (!config.covers(name.module)) {
      fail_input("{}: tensor '{}' is none that adapter_config.json names", path, view.name);
    }
    if (view.shape.size() != 2) fail_input("{}: tensor '{}' is no matrix", path, view.name);
    const std::string weight_name = name.module + std::string(kWeight);
    const WeightView& weight = base_->weight(weight_name);
    const std::int64_t rank = view.shape[name.is_a ? 0 : 1];
    const std::int64_t extent = view.shape[name.is_a ? 1 : 0];
    const std::int64_t wanted = weight.shape[name.is_a ? 1 : 0];
    Product& product = products_[weight_name];
    const std::int64_t expected = product.rank > 0      ? product.rank
                                  : config.rank_differs ? rank
                                                        : config.rank;
    if (extent != wanted || rank != expected || rank == 0) {
      fail_input("{}: tensor '{}' is {}, but {} needs {}", path, view.name,
                 fmt::join(view.shape, "x"), weight_name,
                 name.is_a ? fmt::format("{}x{}", expected, wanted)
                           : fmt::format("{}x{}", wanted, expected));
    }
    product.rank = rank;
    product.width = weight.shape[1];
    product.scale = config.scale(rank);
    (name.is_a ? product.a : product.b) = values_of(view, path);
  }
  check_complete(path, config);
}

void LoraCheckpoint::check_complete(const std::string& path, const AdapterConfig& config) const {
  if (products_.empty()) fail_input("{}: holds no tensors", path);
  for (const auto& [name, product] : products_) {
    if (product.a.empty() || product.b.empty()) {
      fail_input("{}: the {} of '{}' is missing", path, product.a.empty() ? "lora_A" : "lora_B",
                 name);
    }
  }
  if (config.targets.empty()) return;
  for (const std::string& name : base_->weight_names()) {
    const std::string module = name.substr(0, name.size() - std::min(name.size(), kWeight.size()));
    if (name.ends_with(kWeight) && layer_of_weight(name) >= 0 && adaptable(*base_, module) &&
        config.covers(module) && !products_.contains(name)) {
      fail_input("{}: adapter_config.json names '{}', but its tensors are missing", path, module);
    }
  }
}

void LoraCheckpoint::read_f32(const WeightView& weight, std::int64_t first,
                              std::span<float> out) const {
  base_->read_f32(weight, first, out);
  const auto found = products_.find(weight.name);
  if (found == products_.end()) return;
  const Product& product = found->second;
  const auto width = static_cast<std::size_t>(product.width);
  const auto rank = static_cast<std::size_t>(product.rank);
  const auto scale = static_cast<float>(product.scale);
  std::vector<float> row(width);
  const float* b = product.b.data() + static_cast<std::size_t>(first) / width * rank;
  for (std::size_t at = 0; at < out.size(); at += width, b += rank) {
    std::ranges::fill(row, 0.0f);
    for (std::size_t k = 0; k < rank; ++k) {
      const float* a = product.a.data() + k * width;
      for (std::size_t j = 0; j < width; ++j) row[j] += b[k] * a[j];
    }
    for (std::size_t j = 0; j < width; ++j) out[at + j] += scale * row[j];
  }
}

// Over the values as they are merged: stored in another type without loss, it is the same adapter.
std::string LoraCheckpoint::own_fingerprint(std::string_view prefix) const {
  Fingerprint fingerprint;
  bool any = false;
  for (const auto& [name, product] : products_) {
    if (!name.starts_with(prefix)) continue;
    any = true;
    fingerprint.add_text(fmt::format("{} {} {:.17g}", name, product.rank, product.scale));
    fingerprint.add(std::as_bytes(std::span(product.a)));
    fingerprint.add(std::as_bytes(std::span(product.b)));
  }
  return any ? fingerprint.hex() : "";
}

std::string LoraCheckpoint::fingerprint() const {
  Fingerprint fingerprint;
  fingerprint.add_text(adapter_.base_fingerprint);
  fingerprint.add_text(adapter_.fingerprint);
  return fingerprint.hex();
}

std::string LoraCheckpoint::fingerprint_of(std::string_view prefix) const {
  const std::string base = base_->fingerprint_of(prefix), own = own_fingerprint(prefix);
  if (own.empty()) return base;
  Fingerprint fingerprint;
  fingerprint.add_text(base);
  fingerprint.add_text(own);
  return fingerprint.hex();
}

}  // namespace kv
