#pragma once
// The options of tools that run a model.

#include "kv/container/tensor.hh"
#include "kv/model/model.hh"
#include "tool.hh"

namespace kv {

struct ModelToolOptions {
  std::string model;
  std::string compute = "auto";
  std::string device = "auto";
  int threads = 0;

  ModelOptions parsed() const {
    return {.compute = parse_compute(compute), .device = parse_device(device), .threads = threads};
  }
  // A file's type: the one that --dtype names, else that of --compute, and bf16 with auto, for it
  // is not the processor's business.
  DType file_dtype(const std::string& given) const {
    if (!given.empty()) return parse_dtype(given);
    return compute == "auto" ? DType::kBF16 : parse_dtype(compute);
  }
};

inline void declare_model(CLI::App& app, ModelToolOptions& options) {
  app.add_option("-m,--model", options.model,
                 "a .gguf file, a Hugging Face folder, or a name; +ADAPTER: with a LoRA")
      ->type_name("MODEL")
      ->required();
  app.add_option("--compute", options.compute, "auto, f32, bf16 or f16")->type_name("TYPE");
  app.add_option("--device", options.device, "auto, cpu or cuda")->type_name("DEVICE");
  app.add_option("--threads", options.threads, "processor threads (default: all)")
      ->type_name("N")
      ->check(CLI::Range(0, 4096));
}

}  // namespace kv
