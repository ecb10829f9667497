#pragma once
// A checkpoint with a LoRA adapter merged in: rows are W + s B A, added in f32 as they are read.
// Private to the folder; Checkpoint::open makes it of "BASE+ADAPTER".

#include "kv/checkpoint/adapter_config.hh"
#include "kv/checkpoint/checkpoint.hh"

#include <map>
#include <memory>

namespace kv {

class LoraCheckpoint final : public Checkpoint {
 public:
  // `folder` has adapter_config.json and adapter_model.safetensors. Throws kInput: damaged, made
  // for another model, not complete, or what AdapterConfig does not allow.
  LoraCheckpoint(std::unique_ptr<Checkpoint> base, const std::string& folder);

  const WeightView& weight(std::string_view name) const override { return base_->weight(name); }
  bool has_weight(std::string_view name) const override { return base_->has_weight(name); }
  std::vector<std::string> weight_names() const override { return base_->weight_names(); }
  void read_f32(const WeightView& weight, std::int64_t first, std::span<float> out) const override;
  std::string fingerprint() const override;
  std::string fingerprint_of(std::string_view prefix) const override;
  std::string tokenizer_path() const override { return base_->tokenizer_path(); }
  const Adapter* adapter() const override { return &adapter_; }

 private:
  struct Product {
    std::int64_t rank = 0, width = 0;
    double scale = 0;
    std::vector<float> a, b;  // [rank][width], [rows][rank]
  };
  void read_tensors(const std::string& path, const AdapterConfig& config);
  void check_complete(const std::string& path, const AdapterConfig& config) const;
  std::string own_fingerprint(std::string_view prefix) const;

  std::unique_ptr<Checkpoint> base_;
  std::map<std::string, Product, std::less<>> products_;  // by name of the weight
  Adapter adapter_;
};

}  // namespace kv
