#pragma once
// A safetensors file: JSON header and mapped tensors. The format: 8 bytes of header length, the
// header, then the data without holes or overlaps.

#include "kv/base/file.hh"
#include "kv/checkpoint/checkpoint.hh"

#include <map>
#include <string>
#include <vector>

namespace kv {

// A tensor as the file has it, whatever its type.
struct SafetensorsEntry {
  std::string name, dtype;  // "F32", "BF16", "I64" and so on
  std::vector<std::int64_t> shape;
  ByteView bytes;
};

class SafetensorsFile {
 public:
  // Throws kInput: damaged, holes or overlaps, a header over 100 MB.
  explicit SafetensorsFile(const std::string& path);
  SafetensorsFile(Mapping mapping, const std::string& name);

  // Tensors of types other than F32, F16 and BF16 are left out.
  const std::vector<WeightView>& tensors() const { return tensors_; }
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  // Null when there is none of that name.
  const SafetensorsEntry* find(std::string_view name) const;
  // Texts of __metadata__; entries that are no text are left out.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  void parse(const std::string& name);

  Mapping mapping_;
  std::vector<WeightView> tensors_;
  std::vector<SafetensorsEntry> entries_;  // by name
  std::map<std::string, std::string> metadata_;
};

}  // namespace kv
