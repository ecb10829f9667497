#pragma once
// LoRA adapters written for tests.

#include "kv/base/file.hh"
#include "kv/checkpoint/adapter_config.hh"
#include "kv/checkpoint/safetensors_out.hh"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

namespace kv {

// A folder for a test's files, which goes with it.
struct ScratchFolder {
  std::string path = std::filesystem::temp_directory_path() / "kvtools-test-XXXXXX";
  ScratchFolder() {
    if (!mkdtemp(path.data())) fail_errno("create " + path);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ~ScratchFolder() { std::filesystem::remove_all(path); }
};

struct TestTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

inline TestTensor random_tensor(const std::string& name, std::vector<std::int64_t> shape,
                                std::mt19937& random, float spread = 0.1f) {
  TestTensor tensor{name, std::move(shape), {}};
  std::size_t count = 1;
  for (const std::int64_t extent : tensor.shape) count *= static_cast<std::size_t>(extent);
  std::normal_distribution<float> normal(0, spread);
  for (std::size_t i = 0; i < count; ++i) tensor.values.push_back(normal(random));
  return tensor;
}

inline void put_file(const std::string& path, ByteView bytes) {
  Output output = Output::create(path, true);
  output.write(bytes);
  output.commit();
}

inline void put_safetensors(const std::string& path, const std::vector<TestTensor>& tensors,
                            const std::map<std::string, std::string>& metadata = {}) {
  std::vector<SafetensorsTensor> heads;
  for (const TestTensor& tensor : tensors) {
    heads.push_back({tensor.name, "F32", tensor.shape, tensor.values.size() * sizeof(float)});
  }
  Bytes bytes = safetensors_header(heads, metadata);
  for (const TestTensor& tensor : tensors) {
    const ByteView data = std::as_bytes(std::span(tensor.values));
    bytes.insert(bytes.end(), data.begin(), data.end());
  }
  put_file(path, bytes);
}

// "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
inline std::string lora_name(std::int64_t layer, const std::string& module, char which) {
  return fmt::format("base_model.model.model.layers.{}.{}.lora_{}.weight", layer, module, which);
}

}  // namespace kv
