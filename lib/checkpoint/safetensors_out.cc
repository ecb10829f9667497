#include "kv/checkpoint/safetensors_out.hh"

#include <nlohmann/json.hpp>

#include <array>

namespace kv {
namespace {

struct Name {
  DType dtype;
  std::string_view name;
};
constexpr std::array<Name, 5> kNames = {{{DType::kF32, "F32"},
                                         {DType::kF16, "F16"},
                                         {DType::kBF16, "BF16"},
                                         {DType::kF8E4M3, "F8_E4M3"},
                                         {DType::kF8E5M2, "F8_E5M2"}}};

}  // namespace

Bytes safetensors_header(const std::vector<SafetensorsTensor>& tensors,
                         const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header;
  header["__metadata__"] = metadata;
  std::uint64_t at = 0;
  for (const SafetensorsTensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {at, at + tensor.size_bytes}}};
    at += tensor.size_bytes;
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  text.append(-text.size() % 8, ' ');
  ByteWriter bytes;
  bytes.put(static_cast<std::uint64_t>(text.size()));
  bytes.put_bytes(as_bytes(text));
  return bytes.take();
}

std::string safetensors_name(DType dtype) {
  for (const Name& known : kNames) {
    if (known.dtype == dtype) return std::string(known.name);
  }
  fail_usage("safetensors: no {} for keys and values", dtype_name(dtype));
}

DType safetensors_dtype(const std::string& name, const std::string& place) {
  for (const Name& known : kNames) {
    if (known.name == name) return known.dtype;
  }
  fail_input("{}: dtype {} is none of keys and values", place, name);
}

}  // namespace kv
