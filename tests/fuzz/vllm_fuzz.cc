// Layers of vLLM's connector.
#include "layout_fuzz.hh"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string& folder = kv::scratch_folder();
  const kv::NamedBytes file(data, size);
  if (!file.whole()) return 0;
  const std::string link = folder + "/model.layers.0.self_attn.attn.safetensors";
  unlink(link.c_str());
  if (symlink(file.path().c_str(), link.c_str()) != 0) return 0;
  kv::import_any("vllm", folder, 2);
  return 0;
}
