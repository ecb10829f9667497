// What a run leaves behind: the adapter, and the state that it can go on from.

#include "kv/base/hash.hh"
#include "kv/checkpoint/dequantize.hh"
#include "kv/checkpoint/safetensors.hh"
#include "kv/checkpoint/safetensors_out.hh"
#include "kv/model/torch_guard.hh"
#include "tune_state.hh"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

namespace kv {
namespace {

struct Named {
  std::string name;
  at::Tensor tensor;
};

Bytes safetensors_of(const std::vector<Named>& tensors, DType dtype,
                     const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsTensor> heads;
  for (const Named& each : tensors) {
    heads.push_back({each.name, safetensors_name(dtype), each.tensor.sizes().vec(),
                     static_cast<std::uint64_t>(each.tensor.numel()) * dtype_size_bytes(dtype)});
  }
  Bytes out = safetensors_header(heads, metadata);
  for (const Named& each : tensors) {
    const std::vector<float> values = Model::floats_of(each.tensor.detach());
    const std::size_t at = out.size();
    out.resize(at + values.size() * dtype_size_bytes(dtype));
    convert(std::as_bytes(std::span(values)), DType::kF32, std::span(out).subspan(at), dtype);
  }
  return out;
}

}  // namespace

void require_adapter_dtype(DType dtype) {
  if (dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kBF16) {
    fail_usage("--dtype {}: an adapter is f32, f16 or bf16", dtype_name(dtype));
  }
}

AdapterFiles adapter_files(const LoraModel& model, const std::string& base_fingerprint,
                           DType dtype) {
  require_adapter_dtype(dtype);
  return guarded([&] {
    std::vector<Named> tensors;
    for (const LoraPair& pair : model.pairs()) {
      const std::string name = "base_model.model." + pair.module;
      tensors.push_back({name + ".lora_A.weight", pair.a});
      tensors.push_back({name + ".lora_B.weight", pair.b});
    }
    std::ranges::sort(tensors, {}, &Named::name);
    // PyTorch's readers look for "format".
    return AdapterFiles{
        adapter_config_json(model.config()),
        safetensors_of(tensors, dtype, {{"base_fingerprint", base_fingerprint}, {"format", "pt"}})};
  });
}

std::string Tuner::State::description(const std::string& base_fingerprint) const {
  Fingerprint content;
  for (const TrainingText& text : texts) {
    content.add_text(fmt::format("{} {}", text.prompt, fmt::join(text.ids, " ")));
  }
  const AdapterConfig& lora = model.config();
  return fmt::format(
      "base {} texts {} rank {} alpha {} targets {} layers {} steps {} batch {} microbatch {} "
      "lr {} warmup {} final {} decay {} clip {} seed {}",
      base_fingerprint, content.hex(), lora.rank, lora.alpha, fmt::join(lora.targets, ","),
      fmt::join(lora.layers, ","), options.steps, options.batch, options.microbatch_tokens,
      options.learning_rate, options.warmup, options.final_share, options.weight_decay,
      options.clip, options.seed);
}

Bytes Tuner::state(const std::string& base_fingerprint) const {
  return guarded([&] {
    std::vector<Named> tensors;
    for (std::size_t i = 0; i < state_->moments.size(); ++i) {
      const State::Moments& each = state_->moments[i];
      tensors.push_back({fmt::format("{:06}.value", i), each.value});
      tensors.push_back({fmt::format("{:06}.mean", i), each.mean});
      tensors.push_back({fmt::format("{:06}.square", i), each.square});
    }
    return safetensors_of(tensors, DType::kF32,
                          {{"kvtune_step", std::to_string(state_->done)},
                           {"kvtune_run", state_->description(base_fingerprint)}});
  });
}

void Tuner::restore(const std::string& path, const std::string& base_fingerprint) {
  const SafetensorsFile file(path);
  const auto text = [&](const char* key) {
    const auto found = file.metadata().find(key);
    if (found == file.metadata().end()) fail_input("{}: not the state of a kvtune run", path);
    return found->second;
  };
  const std::string run = text("kvtune_run"), count = text("kvtune_step");
  if (run != state_->description(base_fingerprint)) {
    fail_input(
        "{}: the state of another run ({}); give the same options, model and texts, or "
        "remove it",
        path, run);
  }
  std::int64_t done = -1;
  const auto [end, error] = std::from_chars(count.data(), count.data() + count.size(), done);
  if (error != std::errc() || end != count.data() + count.size() || done < 0 ||
      done > state_->options.steps) {
    fail_input("{}: '{}' is no step of this run", path, count);
  }
  guarded([&] {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < state_->moments.size(); ++i) {
      State::Moments& each = state_->moments[i];
      for (const auto& [ending, tensor] :
           {std::pair(".value", &each.value), {".mean", &each.mean}, {".square", &each.square}}) {
        const std::string name = fmt::format("{:06}{}", i, ending);
        const auto found = std::ranges::find(file.tensors(), name, &WeightView::name);
        if (found == file.tensors().end() || found->type != WeightType::kF32 ||
            found->shape != tensor->sizes().vec()) {
          fail_input("{}: tensor '{}' is missing or of another shape", path, name);
        }
        at::Tensor host = at::empty(tensor->sizes(), at::TensorOptions(at::kFloat));
        dequantize(found->type, found->bytes.data(),
                   {host.mutable_data_ptr<float>(), static_cast<std::size_t>(host.numel())});
        tensor->copy_(host);
      }
    }
  });
  state_->done = done;
}

}  // namespace kv
