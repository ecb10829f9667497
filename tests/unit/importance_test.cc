// The importance of tokens against its definition, computed anew in doubles from the weights.
#include "kv/model/importance.hh"

#include "kv/model/model.hh"
#include "random_checkpoint.hh"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/softmax.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

using namespace kv;

namespace {

std::vector<std::int32_t> some_ids(std::int64_t count) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i) ids.push_back(static_cast<std::int32_t>(i * i % 97));
  return ids;
}

at::Tensor weight(const Checkpoint& checkpoint, const std::string& name) {
  const WeightView& view = checkpoint.weight(name);
  std::vector<float> values(static_cast<std::size_t>(view.count()));
  checkpoint.read_f32(view, 0, values);
  return at::from_blob(values.data(), view.shape, at::TensorOptions(at::kFloat)).to(at::kDouble);
}

at::Tensor normed(const at::Tensor& rows, const at::Tensor& scale, double epsilon) {
  return rows / (rows.square().mean(-1, true) + epsilon).sqrt() * scale;
}

at::Tensor turned(const at::Tensor& rows) {  // [heads][tokens][dim]
  const std::int64_t half = rows.size(2) / 2;
  const auto options = at::TensorOptions(at::kDouble);
  const at::Tensor angles = at::outer(
      at::arange(rows.size(1), options),
      (at::arange(half, options) * (-2.0 * std::log(10000.0) / static_cast<double>(rows.size(2))))
          .exp());
  const at::Tensor a = rows.narrow(2, 0, half), b = rows.narrow(2, half, half);
  return at::cat({a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()}, 2);
}

// What the definition says of one layer, from its input `hidden` [tokens][width], when the rows
// from `prefix` on are the pass.
TokenImportance defined(const RandomCheckpoint& checkpoint, std::size_t layer,
                        const std::vector<float>& hidden, std::int64_t prefix) {
  const ModelConfig& config = checkpoint.config();
  const LayerGeometry& geometry = config.layers[layer];
  const std::int64_t tokens = static_cast<std::int64_t>(hidden.size()) / config.hidden;
  const std::int64_t heads = config.query_heads, group = heads / geometry.kv_heads;
  const std::string name = "model.layers." + std::to_string(layer) + ".";
  const at::Tensor rows =
      normed(at::from_blob(const_cast<float*>(hidden.data()), {tokens, config.hidden},
                           at::TensorOptions(at::kFloat))
                 .to(at::kDouble),
             weight(checkpoint, name + "input_layernorm.weight"), config.rms_epsilon);
  const auto project = [&](const std::string& part, std::int64_t count) {
    const std::string full = name + "self_attn." + part;
    at::Tensor out = at::matmul(rows, weight(checkpoint, full + "_proj.weight").t());
    if (config.attention_bias) out = out + weight(checkpoint, full + "_proj.bias");
    out = out.unflatten(1, {count, geometry.k_dim}).transpose(0, 1);
    if (config.qk_norm && part != "v") {
      out = normed(out, weight(checkpoint, full + "_norm.weight"), config.rms_epsilon);
    }
    return out;
  };
  const at::Tensor queries = turned(project("q", heads));
  const at::Tensor keys = turned(project("k", geometry.kv_heads)).repeat_interleave(group, 0);
  const at::Tensor values = project("v", geometry.kv_heads).repeat_interleave(group, 0);
  const at::Tensor place = at::arange(tokens, at::TensorOptions(at::kLong));
  const at::Tensor behind = place.unsqueeze(1) - place;  // [query][token]
  at::Tensor visible = behind >= 0;
  if (geometry.window > 0) visible = visible.logical_and(behind < geometry.window);
  const at::Tensor attention =
      at::softmax((at::matmul(queries, keys.transpose(1, 2)) /
                   std::sqrt(static_cast<double>(geometry.k_dim)))
                      .masked_fill(visible.logical_not(), -std::numeric_limits<double>::infinity()),
                  -1)
          .contiguous();
  const at::Tensor outputs = at::matmul(attention, values).contiguous();
  const at::Tensor value_rows = values.contiguous();

  const std::int64_t pass = tokens - prefix, samples = std::min<std::int64_t>(pass, 128);
  std::vector<double> key_means, value_means;
  std::vector<bool> asked;
  for (std::int64_t t = 0; t < tokens; ++t) {
    double key = 0, value = 0;
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < samples; ++i) {
      const std::int64_t q = prefix + (i + 1) * pass / samples - 1;
      if (q - t < 32 || (geometry.window > 0 && q - t >= geometry.window)) continue;
      ++count;
      for (std::int64_t head = 0; head < heads; ++head) {
        const double a = attention.const_data_ptr<double>()[(head * tokens + q) * tokens + t];
        double distance = 0;
        for (std::int64_t c = 0; c < geometry.v_dim; ++c) {
          const double difference =
              value_rows.const_data_ptr<double>()[(head * tokens + t) * geometry.v_dim + c] -
              outputs.const_data_ptr<double>()[(head * tokens + q) * geometry.v_dim + c];
          distance += difference * difference;
        }
        value += a * a;
        key += a * a * distance;
      }
    }
    const auto terms = static_cast<double>(std::max<std::int64_t>(1, count) * heads);
    key_means.push_back(key / terms);
    value_means.push_back(value / terms);
    asked.push_back(count >= 8);
  }
  const auto finished = [&](const std::vector<double>& means) {
    std::vector<double> others;
    for (std::size_t t = 0; t < means.size(); ++t) {
      if (asked[t]) others.push_back(means[t]);
    }
    std::ranges::sort(others);
    std::vector<float> out;
    for (std::size_t t = 0; t < means.size(); ++t) {
      double result = others.empty() ? 1.0 : means[t];
      if (!asked[t] && !others.empty()) {
        const auto at =
            static_cast<std::size_t>(std::ceil(0.9 * static_cast<double>(others.size()) - 1e-9));
        result = std::max(result, others[at - 1]);
      }
      out.push_back(static_cast<float>(result));
    }
    return out;
  };
  return {finished(key_means), finished(value_means)};
}

// The largest difference in parts of the wanted.
double error_of(const std::vector<float>& got, const std::vector<float>& wanted) {
  REQUIRE(got.size() == wanted.size());
  double error = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    REQUIRE(wanted[i] > 0);
    error = std::max(error, std::abs(static_cast<double>(got[i]) / wanted[i] - 1));
  }
  return error;
}

struct Measured {
  RandomCheckpoint checkpoint;
  std::vector<TokenImportance> weights;
  std::vector<std::vector<float>> hidden;

  // Of `prefix` tokens without, then the rest with.
  Measured(const RandomShape& shape, const ModelOptions& options, std::int64_t tokens,
           std::int64_t prefix = 0, std::int64_t block = 1024, LogitRows logits = LogitRows::kNone)
      : checkpoint(shape) {
    const auto model = Model::load(checkpoint, options);
    KvCache cache = model->make_cache({.capacity = tokens});
    const std::vector<std::int32_t> ids = some_ids(tokens);
    std::vector<std::int64_t> layers(static_cast<std::size_t>(shape.layers));
    std::iota(layers.begin(), layers.end(), 0);
    const auto before = static_cast<std::size_t>(prefix);
    hidden = model->forward(std::span(ids).first(before), cache, {.hidden_layers = layers}).hidden;
    const ForwardResult result = model->forward(
        std::span(ids).subspan(before), cache,
        {.logits = logits, .hidden_layers = layers, .importance = true, .block = block});
    weights = result.importance;
    for (std::size_t i = 0; i < hidden.size(); ++i) {
      hidden[i].insert(hidden[i].end(), result.hidden[i].begin(), result.hidden[i].end());
    }
  }

  double worst(std::int64_t prefix = 0) const {
    REQUIRE(weights.size() == hidden.size());
    double error = 0;
    for (std::size_t layer = 0; layer < weights.size(); ++layer) {
      const TokenImportance wanted = defined(checkpoint, layer, hidden[layer], prefix);
      error = std::max({error, error_of(weights[layer].keys, wanted.keys),
                        error_of(weights[layer].values, wanted.values)});
    }
    return error;
  }
};

const std::vector<RandomShape> kShapes = {
    {},
    {.window = 90, .bias = true, .qk_norm = true},
    {.hidden = 50, .query_heads = 7, .kv_heads = 1, .head_dim = 24},
    {.query_heads = 4, .kv_heads = 4, .head_dim = 10}};

}  // namespace

TEST_CASE("as defined, by fused loops and by LibTorch's operations") {
  for (const bool plain : {false, true}) {
    for (const RandomShape& shape : kShapes) {
      for (const std::int64_t tokens : {100, 333}) {
        CAPTURE(plain);
        CAPTURE(shape.head_dim);
        CAPTURE(tokens);
        const Measured measured(shape, {.compute = Compute::kF32, .plain_ops = plain}, tokens);
        CHECK(measured.worst() < 1e-4);
      }
    }
  }
}

TEST_CASE("half precision stays near") {
  for (const auto& [compute, plain] :
       {std::pair(Compute::kBF16, false), {Compute::kBF16, true}, {Compute::kF16, true}}) {
    CAPTURE(plain);
    const Measured exact({}, {.compute = Compute::kF32}, 333);
    const Measured half({}, {.compute = compute, .plain_ops = plain}, 333);
    double error = 0;
    for (std::size_t layer = 0; layer < 3; ++layer) {
      error = std::max({error, error_of(half.weights[layer].keys, exact.weights[layer].keys),
                        error_of(half.weights[layer].values, exact.weights[layer].values)});
    }
    CHECK(error < (compute == Compute::kF16 ? 0.05 : 0.4));
  }
}

TEST_CASE("the same for any blocks, threads and rows whose logits are wanted") {
  const RandomShape shape{.window = 400};
  const auto measure = [&](int threads, std::int64_t block, LogitRows logits, bool plain = false) {
    return Measured(shape, {.compute = Compute::kF32, .threads = threads, .plain_ops = plain}, 1300,
                    0, block, logits)
        .weights;
  };
  const std::vector<TokenImportance> one = measure(1, 1024, LogitRows::kNone);
  const auto compare = [&](const std::vector<TokenImportance>& other, double limit) {
    for (std::size_t layer = 0; layer < one.size(); ++layer) {
      CHECK(error_of(other[layer].keys, one[layer].keys) <= limit);
      CHECK(error_of(other[layer].values, one[layer].values) <= limit);
    }
  };
  compare(measure(2, 1024, LogitRows::kNone), 0);
  compare(measure(2, 256, LogitRows::kNone), 1e-4);
  compare(measure(2, 100, LogitRows::kLast), 1e-4);
  compare(measure(2, 1024, LogitRows::kAll), 1e-4);
  compare(measure(2, 256, LogitRows::kLast, true), 1e-4);
}

TEST_CASE("a prefix's tokens get their weights from the new rows") {
  for (const bool plain : {false, true}) {
    for (const std::int64_t prefix : {20, 100}) {
      const RandomShape shape{.window = 120};
      const Measured measured(shape, {.compute = Compute::kF32, .plain_ops = plain}, 150, prefix);
      CHECK(measured.weights[0].keys.size() == 150);
      CHECK(measured.worst(prefix) < 1e-4);
    }
  }
}

TEST_CASE("no rows are told of tokens out of the window") {
  // Rows 32 to 39 behind a token see it: of 64 rows, each is sampled, so that all but the last 39
  // tokens have their eight.
  const auto weights_for = [](std::int64_t window) {
    return Measured({.layers = 1, .window = window}, {.compute = Compute::kF32}, 64).weights[0];
  };
  const TokenImportance eight = weights_for(40), seven = weights_for(39);
  CHECK(std::ranges::max(eight.values) > std::ranges::min(eight.values));
  CHECK(seven.values == std::vector<float>(64, 1.0f));
  CHECK(seven.keys == std::vector<float>(64, 1.0f));
}

TEST_CASE("short texts: all tokens are alike") {
  for (const bool plain : {false, true}) {
    for (const std::int64_t tokens : {1, 5, 39}) {
      const Measured measured({}, {.compute = Compute::kF32, .plain_ops = plain}, tokens);
      const std::vector<float> ones(static_cast<std::size_t>(tokens), 1.0f);
      for (const TokenImportance& layer : measured.weights) {
        CHECK(layer.keys == ones);
        CHECK(layer.values == ones);
      }
    }
    const Measured measured({}, {.compute = Compute::kF32, .plain_ops = plain}, 40);
    CHECK(measured.weights[0].values[0] < 1);
  }
}

TEST_CASE("nothing is measured that was not asked for") {
  const RandomCheckpoint checkpoint({});
  const auto model = Model::load(checkpoint, {.compute = Compute::kF32});
  KvCache cache = model->make_cache({.capacity = 100});
  CHECK(model->forward(some_ids(100), cache).importance.empty());
}
