#include "kv/tune/tune.hh"

#include "adapter_files.hh"
#include "error_kind.hh"
#include "kv/checkpoint/lora_checkpoint.hh"
#include "random_checkpoint.hh"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <doctest/doctest.h>

#include <cmath>

using namespace kv;

namespace {

const ModelOptions kF32{.compute = Compute::kF32, .device = Device::kCpu, .threads = 1};

// What to say follows from the last id before it.
std::vector<TrainingText> texts_of(std::size_t count) {
  std::vector<TrainingText> texts;
  for (std::size_t i = 0; i < count; ++i) {
    TrainingText text;
    for (std::size_t j = 0; j < 6 + i % 3; ++j) {
      text.ids.push_back(static_cast<std::int32_t>((i * 13 + j * 7) % 90));
    }
    text.prompt = std::ssize(text.ids);
    text.ids.push_back((text.ids.back() + 5) % 97);
    text.ids.push_back(1);
    texts.push_back(std::move(text));
  }
  return texts;
}

std::vector<float> values_of(const LoraModel& model) {
  std::vector<float> all;
  for (const LoraPair& pair : model.pairs()) {
    for (const at::Tensor& tensor : {pair.a.detach(), pair.b.detach()}) {
      const std::vector<float> values = Model::floats_of(tensor);
      all.insert(all.end(), values.begin(), values.end());
    }
  }
  return all;
}

// A and B by which the adapter makes a difference.
void stir(LoraModel& model) {
  const at::NoGradGuard no_grad;
  float next = 0.01f;
  for (LoraPair& pair : model.pairs()) {
    float* b = pair.b.mutable_data_ptr<float>();
    for (std::int64_t i = 0; i < pair.b.numel(); ++i) {
      b[i] = 0.05f * std::sin(next);
      next += 0.7f;
    }
  }
}

std::vector<std::int32_t> some_ids(std::int64_t count) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i) ids.push_back(static_cast<std::int32_t>(i * 31 % 97));
  return ids;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(a[i]) - b[i]));
  }
  return largest;
}

}  // namespace

TEST_CASE("beside the weights or merged into them: the same logits") {
  for (const RandomShape& shape :
       {RandomShape{}, RandomShape{.window = 20}, RandomShape{.bias = true, .qk_norm = true}}) {
    const RandomCheckpoint base(shape);
    LoraModel model(base, kF32, {.rank = 3, .alpha = 4, .layers = {1, 2}}, 5);
    CHECK(model.pairs().size() == 14);
    const std::vector<std::int32_t> ids = some_ids(50);
    const auto whole = [&](const Checkpoint& checkpoint) {
      const auto plain = Model::load(checkpoint, kF32);
      KvCache cache = plain->make_cache({.capacity = 50});
      return plain->forward(ids, cache, {.logits = LogitRows::kAll}).logits;
    };
    const std::vector<float> before = whole(base);
    CHECK(largest_difference(before, Model::floats_of(model.logits(ids))) < 1e-3);
    stir(model);
    ScratchFolder folder;
    const AdapterFiles files = adapter_files(model, "random", DType::kF32);
    put_file(folder.path + "/adapter_config.json", as_bytes(files.config_json));
    put_file(folder.path + "/adapter_model.safetensors", files.tensors);
    const LoraCheckpoint merged(std::make_unique<RandomCheckpoint>(shape), folder.path);
    const std::vector<float> after = whole(merged);
    CHECK(largest_difference(before, after) > 0.1);
    CHECK(largest_difference(after, Model::floats_of(model.logits(ids))) < 1e-3);
  }
}

TEST_CASE("gradients are those that small changes find") {
  const RandomCheckpoint base(RandomShape{.window = 5});
  LoraModel model(base, kF32, {.rank = 2, .alpha = 4}, 5);
  stir(model);
  const std::vector<TrainingText> texts = texts_of(3);
  const std::vector<const TrainingText*> all = {&texts[0], &texts[1], &texts[2]};
  model.loss(all).backward();
  for (const std::size_t at : {std::size_t{0}, std::size_t{8}, model.pairs().size() - 1}) {
    for (const at::Tensor& tensor : {model.pairs()[at].a, model.pairs()[at].b}) {
      const at::NoGradGuard no_grad;
      float* value = tensor.mutable_data_ptr<float>() + 3;
      const float kept = *value, by = 4e-3f;
      *value = kept + by;
      const double up = model.loss(all).item<double>();
      *value = kept - by;
      const double down = model.loss(all).item<double>();
      *value = kept;
      const double gradient = Model::floats_of(tensor.grad())[3];
      CHECK((up - down) / (2 * by) == doctest::Approx(gradient).epsilon(0.03).scale(1));
    }
  }
}

TEST_CASE("the loss falls") {
  const RandomCheckpoint base(RandomShape{});
  LoraModel model(base, kF32, {.rank = 8, .alpha = 16}, 1);
  const std::vector<TrainingText> texts = texts_of(12);
  const double before = mean_loss(model, texts, 64);
  CHECK(mean_loss(model, texts, 1) == doctest::Approx(before));
  Tuner tuner(model, texts, {.steps = 40, .batch = 4, .learning_rate = 1e-2});
  TuneStep last;
  while (tuner.done() < 40) last = tuner.step();
  CHECK(last.step == 40);
  CHECK(last.norm > 0);
  CHECK(mean_loss(model, texts, 64) < 0.2 * before);
}

TEST_CASE("a run that was interrupted ends where an unbroken one does") {
  const RandomCheckpoint base(RandomShape{});
  const std::vector<TrainingText> texts = texts_of(7);
  const TuneOptions options{.steps = 6, .batch = 3, .learning_rate = 5e-3, .seed = 9};
  const AdapterConfig config{.rank = 4, .alpha = 4, .targets = {"q_proj", "down_proj"}};
  LoraModel whole(base, kF32, config, options.seed), parted(base, kF32, config, options.seed),
      resumed(base, kF32, config, options.seed);
  Tuner unbroken(whole, texts, options), first(parted, texts, options),
      second(resumed, texts, options);
  while (unbroken.done() < 6) unbroken.step();
  while (first.done() < 4) first.step();
  ScratchFolder folder;
  const std::string path = folder.path + "/state";
  put_file(path, first.state("base"));
  second.restore(path, "base");
  CHECK(second.done() == 4);
  CHECK(second.state("base") == first.state("base"));
  while (second.done() < 6) second.step();
  CHECK(values_of(resumed) == values_of(whole));
  CHECK(adapter_files(resumed, "base", DType::kBF16).tensors ==
        adapter_files(whole, "base", DType::kBF16).tensors);

  const auto refused = [&](const std::string& of, const TuneOptions& with) {
    LoraModel other(base, kF32, config, options.seed);
    Tuner tuner(other, texts, with);
    return kind_of([&] { tuner.restore(path, of); });
  };
  TuneOptions other = options;
  other.learning_rate = 1e-3;
  CHECK(refused("base", other) == ErrorKind::kInput);
  CHECK(refused("another", options) == ErrorKind::kInput);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  CHECK(refused("base", options) == ErrorKind::kInput);
}

TEST_CASE("rates and orders") {
  const TuneOptions options{.steps = 20, .learning_rate = 2, .warmup = 4, .final_share = 0.1};
  CHECK(learning_rate(options, 0) == 0.5);
  CHECK(learning_rate(options, 3) == 2);
  CHECK(learning_rate(options, 4) == 2);
  CHECK(learning_rate(options, 12) == doctest::Approx(1.1));
  CHECK(learning_rate(options, 19) < 0.25);
  CHECK(learning_rate({.steps = 1, .learning_rate = 1}, 0) == 1);
  BatchOrder order(5, 2, 7), again(5, 2, 7);
  std::vector<std::size_t> seen;
  for (std::int64_t step = 0; step < 5; ++step) {
    const std::vector<std::size_t> batch = order.batch(step);
    seen.insert(seen.end(), batch.begin(), batch.end());
  }
  CHECK(again.batch(4) == order.batch(4));
  CHECK(again.batch(1) == order.batch(1));
  for (const std::size_t round : {std::size_t{0}, std::size_t{5}}) {
    std::vector<std::size_t> all(seen.begin() + static_cast<std::ptrdiff_t>(round),
                                 seen.begin() + static_cast<std::ptrdiff_t>(round + 5));
    std::ranges::sort(all);
    CHECK(all == std::vector<std::size_t>{0, 1, 2, 3, 4});
  }
}

TEST_CASE("what cannot be tuned") {
  const RandomCheckpoint base(RandomShape{});
  const auto kind = [&](const AdapterConfig& config) {
    return kind_of([&] { LoraModel(base, kF32, config, 1); });
  };
  CHECK(kind({.rank = 0}) == ErrorKind::kUsage);
  CHECK(kind({.targets = {"w_pack"}}) == ErrorKind::kUsage);
  CHECK(kind({.layers = {3}}) == ErrorKind::kUsage);
  LoraModel model(base, kF32, {}, 1);
  const std::vector<TrainingText> none, texts = texts_of(2);
  CHECK(kind_of([&] { Tuner(model, none, {}); }) == ErrorKind::kUsage);
  CHECK(kind_of([&] { Tuner(model, texts, {.steps = 0}); }) == ErrorKind::kUsage);
  CHECK(kind_of([&] { Tuner(model, texts, {.learning_rate = 0}); }) == ErrorKind::kUsage);
  CHECK(kind_of([&] { Tuner(model, texts, {.steps = 2, .warmup = 3}); }) == ErrorKind::kUsage);
  Tuner wild(model, texts, {.steps = 50, .learning_rate = 1e30, .warmup = 0, .clip = 0});
  CHECK(kind_of([&] {
          while (wild.done() < 50) wild.step();
        }) == ErrorKind::kInput);
  CHECK(kind_of([&] { adapter_files(model, "", DType::kI8); }) == ErrorKind::kUsage);
}
