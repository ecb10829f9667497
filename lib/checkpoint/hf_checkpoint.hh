#pragma once
// A Hugging Face folder: config.json, one or sharded safetensors. Private to the folder.

#include "safetensors.hh"
#include "weight_table.hh"

#include <memory>

namespace kv {

class HfCheckpoint final : public WeightTable {
 public:
  explicit HfCheckpoint(const std::string& folder);
  void read_f32(const WeightView& weight, std::int64_t first, std::span<float> out) const override;
  std::string tokenizer_path() const override { return path_; }

 private:
  std::vector<std::string> shard_names() const;

  std::vector<std::unique_ptr<SafetensorsFile>> shards_;
  bool norms_less_one_ = false;
};

}  // namespace kv
