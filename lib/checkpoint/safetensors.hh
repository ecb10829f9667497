#pragma once
// A safetensors file: JSON header and mapped tensors. The format: 8 bytes of header length, the
// header, then the data without holes or overlaps. Private to the folder.

#include "kv/base/file.hh"
#include "kv/checkpoint/checkpoint.hh"

#include <string>
#include <vector>

namespace kv {

class SafetensorsFile {
 public:
  // Throws kInput: damaged, holes or overlaps, a header over 100 MB.
  explicit SafetensorsFile(const std::string& path);
  SafetensorsFile(Mapping mapping, const std::string& name);

  // Tensors of types other than F32, F16 and BF16 are left out.
  const std::vector<WeightView>& tensors() const { return tensors_; }

 private:
  void parse(const std::string& name);

  Mapping mapping_;
  std::vector<WeightView> tensors_;
};

}  // namespace kv
