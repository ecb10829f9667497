#include "hf_checkpoint.hh"

#include "hf_config.hh"
#include "kv/base/json.hh"
#include "kv/checkpoint/dequantize.hh"

#include <nlohmann/json.hpp>
#include <unistd.h>

#include <set>

namespace kv {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxJsonBytes = 64u << 20;

bool exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

std::string read_text(const std::string& path) {
  return std::string(as_text(Input::open(path).read_all(kMaxJsonBytes)));
}

}  // namespace

HfCheckpoint::HfCheckpoint(const std::string& folder) {
  path_ = folder;
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
  const std::string config = path_ + "/config.json", generation = path_ + "/generation_config.json";
  if (!exists(config) && exists(path_ + "/adapter_config.json")) {
    fail_input("{}: a LoRA adapter; name its model before it: -m MODEL+{}", path_, path_);
  }
  if (!exists(config)) fail_input("{}: no config.json in the folder", path_);
  config_ = hf_config(read_text(config), exists(generation) ? read_text(generation) : "", config);
  config_.name = path_.substr(path_.rfind('/') + 1);
  norms_less_one_ = family_of(config_).hf_norms_less_one;
  for (const std::string& shard : shard_names()) {
    shards_.push_back(std::make_unique<SafetensorsFile>(path_ + "/" + shard));
    for (const WeightView& view : shards_.back()->tensors()) {
      if (!weights_.emplace(view.name, view).second) {
        fail_input("{}: weight '{}' stands in two files", path_, view.name);
      }
    }
  }
  // A tied model may carry the head all the same; transformers ties it regardless.
  if (config_.tied_head) weights_.erase("lm_head.weight");
  check_weights();
}

std::vector<std::string> HfCheckpoint::shard_names() const {
  const std::string index = path_ + "/model.safetensors.index.json";
  if (!exists(index)) return {"model.safetensors"};
  const std::string text = read_text(index);
  if (json_too_deep(text, 8)) fail_input("{}: nested too deeply", index);
  const json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object() || !parsed.contains("weight_map") || !parsed["weight_map"].is_object()) {
    fail_input("{}: no weight_map", index);
  }
  std::set<std::string> names;
  for (const auto& [weight, file] : parsed["weight_map"].items()) {
    if (!file.is_string()) fail_input("{}: the file of '{}' is not text", index, weight);
    const auto& name = file.get_ref<const std::string&>();
    if (name.empty() || name.find('/') != std::string::npos || name.front() == '.') {
      fail_input("{}: file '{}' is not a plain name", index, name);
    }
    names.insert(name);
  }
  return {names.begin(), names.end()};
}

void HfCheckpoint::read_f32(const WeightView& weight, std::int64_t first,
                            std::span<float> out) const {
  const std::size_t offset = static_cast<std::size_t>(first) * block_shape(weight.type).size_bytes;
  dequantize(weight.type, weight.bytes.data() + offset, out);
  if (norms_less_one_ && weight.name.ends_with("norm.weight")) {
    for (float& value : out) value += 1;
  }
}

}  // namespace kv
