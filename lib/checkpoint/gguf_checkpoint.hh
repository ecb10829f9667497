#pragma once
// A checkpoint in one GGUF file. Private to the folder; Checkpoint::open makes it.

#include "family.hh"
#include "kv/gguf/gguf.hh"
#include "weight_table.hh"

namespace kv {

class GgufCheckpoint final : public WeightTable {
 public:
  explicit GgufCheckpoint(const std::string& path);
  void read_f32(const WeightView& weight, std::int64_t first, std::span<float> out) const override;
  std::string tokenizer_path() const override { return path_; }

 private:
  void read_config();
  void read_rope(const std::string& arch, Rope& rope) const;
  void set_windows(const std::string& arch);
  void add_weight(const GgufTensor& tensor);
  void add_rope(const GgufTensor& tensor);
  std::int64_t required(const std::string& key, std::int64_t most) const;
  bool interleaved(const WeightView& weight, std::int64_t& head_rows) const;

  GgufFile file_;
  const Family* family_ = nullptr;
};

}  // namespace kv
