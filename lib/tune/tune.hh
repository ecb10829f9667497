#pragma once
// Fine-tuning of a LoRA adapter: AdamW over a learning rate that rises and falls, as kvtune does
// it.

#include "kv/container/tensor.hh"
#include "kv/tune/lora_model.hh"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kv {

struct TuneOptions {
  std::int64_t steps = 100;
  std::size_t batch = 4;                  // texts a step
  std::int64_t microbatch_tokens = 2048;  // through the model at a time, but at least one text
  double learning_rate = 1e-3;
  std::int64_t warmup = -1;  // steps over which it rises; -1: a tenth of all
  double final_share = 0;    // of the rate, at the end of the cosine
  double weight_decay = 0.01;
  double clip = 1;  // of the gradient's norm; 0: none
  std::uint64_t seed = 1;
};

// Rises in a line to `learning_rate` at the end of the warm-up, then falls with a cosine.
double learning_rate(const TuneOptions& options, std::int64_t step);

struct TuneStep {
  std::int64_t step = 0;  // from 1: steps done
  double loss = 0;        // of the step's texts before it, nats a target
  double rate = 0;
  double norm = 0;  // of the gradient, before clipping
  std::int64_t tokens = 0, targets = 0;
};

class Tuner {
 public:
  // Both outlive the tuner. Throws kUsage for options that cannot be.
  Tuner(LoraModel& model, const std::vector<TrainingText>& texts, const TuneOptions& options);
  ~Tuner();

  // Steps done so far, of TuneOptions::steps.
  std::int64_t done() const;
  // The next one. Throws kInput when the loss is not finite any more.
  TuneStep step();

  // All that step() goes by, as a safetensors file: matrices, moments, and a text that says what
  // they belong to: options, base, texts. Going on from it gives what not stopping would have.
  Bytes state(const std::string& base_fingerprint) const;
  // Throws kInput, naming `place`: damaged, or of another run.
  void restore(const std::string& path, const std::string& base_fingerprint);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Mean over all targets, nats.
double mean_loss(const LoraModel& model, const std::vector<TrainingText>& texts,
                 std::int64_t microbatch_tokens);

// Throws kUsage for what is none of f32, f16 and bf16.
void require_adapter_dtype(DType dtype);

// adapter_config.json and adapter_model.safetensors in PEFT's layout, in such a type.
struct AdapterFiles {
  std::string config_json;
  Bytes tensors;
};
AdapterFiles adapter_files(const LoraModel& model, const std::string& base_fingerprint,
                           DType dtype);

}  // namespace kv
