// adapter_config.json of a LoRA adapter from anywhere. What is taken can be written and means the
// same when it is read back.
#include "kv/base/error.hh"
#include "kv/checkpoint/adapter_config.hh"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const kv::AdapterConfig config = kv::parse_adapter_config(text, "adapter_config.json");
    config.scale(config.rank);
    const bool covered = config.covers("model.layers.3.self_attn.q_proj");
    // A regular expression for targets is not kept: the weights say which there are.
    if (config.targets.empty()) return 0;
    const kv::AdapterConfig again =
        kv::parse_adapter_config(kv::adapter_config_json(config), "again");
    if (again.covers("model.layers.3.self_attn.q_proj") != covered || again.rank != config.rank) {
      std::abort();
    }
  } catch (const kv::Error&) {
  }
  return 0;
}
