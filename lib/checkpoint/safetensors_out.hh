#pragma once
// Writing safetensors files.

#include "kv/base/bytes.hh"
#include "kv/container/tensor.hh"

#include <map>
#include <string>
#include <vector>

namespace kv {

struct SafetensorsTensor {
  std::string name, dtype;
  std::vector<std::int64_t> shape;
  std::uint64_t size_bytes = 0;
};

// What stands before the data, which follows in the order of `tensors`. A multiple of 8 bytes.
Bytes safetensors_header(const std::vector<SafetensorsTensor>& tensors,
                         const std::map<std::string, std::string>& metadata);

std::string safetensors_name(DType dtype);
// Throws kInput for what is no dtype of keys and values.
DType safetensors_dtype(const std::string& name, const std::string& place);

}  // namespace kv
