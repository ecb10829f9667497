#include "kv/model/model.hh"

#include "error_kind.hh"
#include "kv/kernels/bf16_product.hh"
#include "random_checkpoint.hh"

#include <ATen/core/Tensor.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

using namespace kv;

namespace {

constexpr std::int64_t kTokens = 150;  // three tiles of slots, the last in part

std::vector<std::int32_t> some_ids(std::int64_t count = kTokens) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i) ids.push_back(static_cast<std::int32_t>(i * 31 % 97));
  return ids;
}

std::vector<std::int64_t> iota(std::int64_t first, std::int64_t count) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), first);
  return all;
}

double difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  REQUIRE(!a.empty());
  REQUIRE(std::ranges::all_of(a, [](float value) { return std::isfinite(value); }));
  double largest = 0, error = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
    error = std::max(error, std::abs(static_cast<double>(a[i]) - b[i]));
  }
  return error / largest;
}

Bytes saved(const KvCache& cache, DType dtype) {
  Bytes all;
  for (std::int64_t layer = 0; layer < cache.layer_count(); ++layer) {
    const LayerGeometry& geometry = cache.geometry(layer);
    for (const auto part : {CachePart::kKeys, CachePart::kValues}) {
      Bytes rows(static_cast<std::size_t>(cache.size() * geometry.kv_heads * geometry.k_dim) *
                 dtype_size_bytes(dtype));
      cache.save(layer, part, 0, cache.size(), dtype, rows);
      all.insert(all.end(), rows.begin(), rows.end());
    }
  }
  return all;
}

void load_all(KvCache& cache, DType dtype, const Bytes& all, std::int64_t tokens) {
  ByteView rest = all;
  for (std::int64_t layer = 0; layer < cache.layer_count(); ++layer) {
    const LayerGeometry& geometry = cache.geometry(layer);
    for (const auto part : {CachePart::kKeys, CachePart::kValues}) {
      TensorView rows{dtype, {tokens, geometry.kv_heads, geometry.k_dim}, {}};
      const std::size_t size = static_cast<std::size_t>(tokens) * rows.row_bytes();
      rows.bytes = rest.first(size);
      rest = rest.subspan(size);
      cache.load(layer, part, 0, rows);
    }
  }
}

std::vector<float> floats(const Bytes& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// A model, and what a plain prefill of some_ids() makes of it.
struct Prefilled {
  RandomCheckpoint checkpoint;
  std::unique_ptr<Model> model;
  KvCache cache;
  ForwardResult result;

  explicit Prefilled(const RandomShape& shape = {}, Compute compute = Compute::kF32,
                     bool plain = false)
      : checkpoint(shape),
        model(Model::load(checkpoint, {.compute = compute, .plain_ops = plain})),
        cache(model->make_cache({.capacity = 200, .keep_unrotated_keys = true})),
        result(
            model->forward(some_ids(), cache,
                           {.logits = LogitRows::kAll, .hidden_layers = iota(0, shape.layers)})) {}
};

// Sizes that kernels/bf16_product takes, where there is AMX.
const RandomShape kKernelShape{.hidden = 64,
                               .intermediate = 96,
                               .query_heads = 4,
                               .kv_heads = 2,
                               .head_dim = 32,
                               .vocab = 128,
                               .window = 33,
                               .bias = true,
                               .qk_norm = true};

}  // namespace

TEST_CASE("blocks of any size give the same bits") {
  for (const RandomShape& shape : {RandomShape{.window = 40}, kKernelShape}) {
    for (const Compute compute : {Compute::kF32, Compute::kBF16}) {
      const Prefilled whole(shape, compute);
      for (const std::int64_t block : {1, 7, 64, 147, 149}) {
        CAPTURE(block);
        KvCache cache = whole.model->make_cache({.capacity = 200, .keep_unrotated_keys = true});
        const ForwardResult result =
            whole.model->forward(some_ids(), cache, {.logits = LogitRows::kAll, .block = block});
        // In bf16 without AMX oneDNN multiplies, and few rows by other kernels than many.
        if (compute == Compute::kF32 ||
            (block > 1 && kv::product_target() == kv::ProductTarget::kAmx)) {
          CHECK(result.logits == whole.result.logits);
          CHECK(saved(cache, DType::kF32) == saved(whole.cache, DType::kF32));
        } else {
          CHECK(difference(result.logits, whole.result.logits) < 2e-2);
        }
      }
    }
  }
}

TEST_CASE("any number of threads gives the same bits") {
  const Prefilled one(kKernelShape, Compute::kBF16);
  for (const int threads : {2, 3, 1}) {
    const auto model = Model::load(one.checkpoint, {.compute = Compute::kBF16, .threads = threads});
    KvCache cache = model->make_cache({.capacity = 200, .keep_unrotated_keys = true});
    for (int i = 0; i < 20; ++i) {
      cache.truncate(0);
      const auto result = model->forward(some_ids(), cache, {.logits = LogitRows::kAll});
      CHECK(result.logits == one.result.logits);
      CHECK(saved(cache, DType::kF32) == saved(one.cache, DType::kF32));
    }
  }
}

TEST_CASE("only the last row's logits") {
  const Prefilled whole;
  KvCache cache = whole.model->make_cache({.capacity = 200, .keep_unrotated_keys = true});
  const ForwardResult last = whole.model->forward(some_ids(), cache, {.block = 64});
  const std::vector<float> row(whole.result.logits.end() - 97, whole.result.logits.end());
  CHECK(difference(last.logits, row) < 1e-5);
  CHECK(saved(cache, DType::kF32) == saved(whole.cache, DType::kF32));
  KvCache other = whole.model->make_cache({.capacity = 200, .keep_unrotated_keys = true});
  CHECK(whole.model->forward(some_ids(), other, {.logits = LogitRows::kNone}).logits.empty());
  CHECK(saved(other, DType::kF32) == saved(whole.cache, DType::kF32));
}

TEST_CASE("any rows, recomputed over the cache of the rest") {
  for (const bool plain : {false, true}) {
    Prefilled whole({.window = 40, .bias = true, .qk_norm = true}, Compute::kF32, plain);
    const Bytes before = saved(whole.cache, DType::kF32);
    for (const std::vector<std::int64_t>& slots :
         {iota(0, kTokens), std::vector<std::int64_t>{3, 149, 64, 10, 65}}) {
      std::vector<float> rows;
      for (const std::int64_t slot : slots) {
        const float* row = whole.result.hidden[0].data() + slot * 48;
        rows.insert(rows.end(), row, row + 48);
      }
      at::Tensor hidden = whole.model->hidden_from(rows);
      for (std::int64_t layer = 0; layer < 3; ++layer) {
        whole.model->run_layer(layer, hidden, slots, whole.cache);
      }
      const std::vector<float> logits = Model::floats_of(whole.model->logits(hidden));
      std::vector<float> wanted;
      for (const std::int64_t slot : slots) {
        const float* row = whole.result.logits.data() + slot * 97;
        wanted.insert(wanted.end(), row, row + 97);
      }
      CHECK(difference(logits, wanted) < 1e-5);
      CHECK(difference(floats(saved(whole.cache, DType::kF32)), floats(before)) < 1e-5);
    }
  }
}

TEST_CASE("a row's new keys and values are what others then see") {
  Prefilled whole;
  const auto run = [&](const std::vector<float>& rows, std::int64_t slot) {
    at::Tensor hidden = whole.model->hidden_from(rows);
    whole.model->run_layer(0, hidden, std::vector{slot}, whole.cache);
    return Model::floats_of(hidden);
  };
  const std::vector<float>& input = whole.result.hidden[0];
  const std::vector<float> row_90(input.begin() + 90 * 48, input.begin() + 91 * 48);
  const std::vector<float> row_20(input.begin() + 20 * 48, input.begin() + 21 * 48);
  const std::vector<float> before = run(row_90, 90), earlier = run(row_20, 20);
  whole.model->write_keys_values(0, whole.model->hidden_from(row_90), std::vector<std::int64_t>{30},
                                 whole.cache);
  CHECK(difference(run(row_90, 90), before) > 1e-4);
  CHECK(run(row_20, 20) == earlier);
}

TEST_CASE("layers from captured hidden states") {
  const Prefilled whole;
  for (const std::int64_t from : {1, 2}) {
    KvCache cache = whole.model->make_cache({.capacity = kTokens});
    cache.extend(0, kTokens);
    at::Tensor hidden =
        whole.model->hidden_from(whole.result.hidden[static_cast<std::size_t>(from)]);
    for (std::int64_t layer = from; layer < 3; ++layer) {
      whole.model->run_layer(layer, hidden, iota(0, kTokens), cache);
    }
    CHECK(Model::floats_of(whole.model->logits(hidden)) == whole.result.logits);
  }
}

TEST_CASE("a cache goes to bytes and back, and generation goes on from it") {
  for (const Compute compute : {Compute::kF32, Compute::kBF16, Compute::kF16}) {
    for (const bool plain : {false, true}) {
      const Prefilled whole({}, compute, plain);
      const DType dtype = whole.model->compute();
      const Bytes bytes = saved(whole.cache, dtype);
      constexpr std::int64_t kPrefix = 101;
      KvCache first = whole.model->make_cache({.capacity = 200, .keep_unrotated_keys = true});
      const std::vector<std::int32_t> ids = some_ids();
      whole.model->forward(std::span(ids).first(kPrefix), first);
      const Bytes prefix = saved(first, dtype);

      KvCache cache = whole.model->make_cache({.capacity = 200, .keep_unrotated_keys = true});
      cache.extend(0, kPrefix);
      load_all(cache, dtype, prefix, kPrefix);
      CHECK(saved(cache, dtype) == prefix);
      CHECK(cache.next_position() == kPrefix);
      const ForwardResult rest =
          whole.model->forward(std::span(ids).subspan(kPrefix), cache, {.logits = LogitRows::kAll});
      const std::vector<float> wanted(whole.result.logits.begin() + kPrefix * 97,
                                      whole.result.logits.end());
      CHECK(difference(rest.logits, wanted) < (compute == Compute::kF32 ? 1e-5 : 2e-2));
      if (!plain && compute != Compute::kF16) {
        CHECK(rest.logits == wanted);
        CHECK(saved(cache, dtype) == bytes);
      }
    }
  }
}

TEST_CASE("a cache loads every float type") {
  const Prefilled whole;
  const std::vector<float> exact = floats(saved(whole.cache, DType::kF32));
  for (const auto& [dtype, limit] : {std::pair(DType::kF32, 0.0),
                                     {DType::kF16, 1e-3},
                                     {DType::kBF16, 5e-3},
                                     {DType::kF8E4M3, 0.07},
                                     {DType::kF8E5M2, 0.13}}) {
    KvCache cache = whole.model->make_cache({.capacity = kTokens, .keep_unrotated_keys = true});
    cache.extend(0, kTokens);
    load_all(cache, dtype, saved(whole.cache, dtype), kTokens);
    CHECK(difference(floats(saved(cache, DType::kF32)), exact) <= limit);
  }
}

TEST_CASE("fused loops and LibTorch's operations agree") {
  for (const RandomShape& shape :
       {RandomShape{}, RandomShape{.window = 33, .bias = true, .qk_norm = true},
        RandomShape{.query_heads = 4, .kv_heads = 4, .head_dim = 10, .window = 1}, kKernelShape,
        RandomShape{
            .hidden = 50, .intermediate = 35, .query_heads = 7, .kv_heads = 1, .head_dim = 24}}) {
    for (const Compute compute : {Compute::kF32, Compute::kBF16}) {
      const Prefilled fused(shape, compute), plain(shape, compute, true);
      const double limit = compute == Compute::kF32 ? 1e-5 : 4e-2;
      CHECK(difference(fused.result.logits, plain.result.logits) < limit);
      CHECK(difference(floats(saved(fused.cache, DType::kF32)),
                       floats(saved(plain.cache, DType::kF32))) < limit);
    }
  }
}

TEST_CASE("a window hides what lies before it") {
  // One layer, window 40: row 100 sees slots 61 to 100.
  const RandomShape shape{.layers = 1, .window = 40};
  for (const bool plain : {false, true}) {
    Prefilled whole(shape, Compute::kF32, plain);
    const auto row_100 = [&] {
      std::vector<float> rows(whole.result.hidden[0].begin() + 100 * 48,
                              whole.result.hidden[0].begin() + 101 * 48);
      at::Tensor hidden = whole.model->hidden_from(rows);
      whole.model->run_layer(0, hidden, std::vector<std::int64_t>{100}, whole.cache);
      return Model::floats_of(hidden);
    };
    const std::vector<float> before = row_100();
    const Bytes zeros(static_cast<std::size_t>(61 * 2 * 16) * 4);
    whole.cache.load(0, CachePart::kValues, 0, {DType::kF32, {61, 2, 16}, zeros});
    CHECK(row_100() == before);
    whole.cache.load(0, CachePart::kValues, 61,
                     {DType::kF32, {1, 2, 16}, ByteView(zeros).first(2 * 16 * 4)});
    CHECK(row_100() != before);
  }
}

TEST_CASE("rows go by position, not by slot") {
  const Prefilled whole({.window = 40});
  for (const bool plain : {false, true}) {
    const auto model =
        Model::load(whole.checkpoint, {.compute = Compute::kF32, .plain_ops = plain});
    std::vector<std::int32_t> positions, ids;
    for (std::int64_t i = 0; i < kTokens; ++i) {
      positions.push_back(static_cast<std::int32_t>(i * 37 % kTokens));
      ids.push_back(some_ids()[static_cast<std::size_t>(positions.back())]);
    }
    KvCache cache = model->make_cache({.capacity = kTokens});
    cache.extend(positions);
    at::Tensor hidden = model->embed(ids);
    for (std::int64_t layer = 0; layer < 3; ++layer) {
      model->run_layer(layer, hidden, iota(0, kTokens), cache);
    }
    const std::vector<float> logits = Model::floats_of(model->logits(hidden));
    std::vector<float> wanted;
    for (const std::int32_t position : positions) {
      const float* row = whole.result.logits.data() + position * 97;
      wanted.insert(wanted.end(), row, row + 97);
    }
    CHECK(difference(logits, wanted) < 1e-5);
  }
}

TEST_CASE("another end after truncation") {
  const Prefilled whole;
  KvCache cache = whole.model->make_cache({.capacity = 200});
  whole.model->forward(some_ids(190), cache, {.logits = LogitRows::kNone});
  cache.truncate(100);
  const std::vector<std::int32_t> ids = some_ids();
  const ForwardResult rest = whole.model->forward(std::span(ids).subspan(100), cache);
  const std::vector<float> row(whole.result.logits.end() - 97, whole.result.logits.end());
  CHECK(difference(rest.logits, row) < 1e-5);
}

TEST_CASE("what does not fit is refused") {
  Prefilled whole;
  const Model& model = *whole.model;
  const std::vector<std::int64_t> slot{0};
  at::Tensor hidden = model.hidden_from(std::vector<float>(48));
  CHECK(kind_of([&] { whole.cache.extend(150, 51); }) == ErrorKind::kUsage);
  CHECK(kind_of([&] { whole.cache.extend((1 << 24) - 1, 2); }) == ErrorKind::kUsage);
  CHECK(kind_of([&] { whole.cache.extend(-1, 1); }) == ErrorKind::kUsage);
  CHECK(kind_of([&] { whole.cache.truncate(151); }) == ErrorKind::kUsage);
  CHECK(kind_of([&] { model.run_layer(3, hidden, slot, whole.cache); }) == ErrorKind::kUsage);
  CHECK(kind_of([&] { model.run_layer(-1, hidden, slot, whole.cache); }) == ErrorKind::kUsage);
  CHECK(kind_of([&] { model.run_layer(0, hidden, iota(0, 2), whole.cache); }) == ErrorKind::kUsage);
  CHECK(kind_of([&] { model.run_layer(0, hidden, iota(150, 1), whole.cache); }) ==
        ErrorKind::kUsage);
  CHECK(kind_of([&] { model.embed(std::vector{97}); }) == ErrorKind::kInput);
  CHECK(kind_of([&] { model.embed(std::vector{-1}); }) == ErrorKind::kInput);
  CHECK(kind_of([&] { model.hidden_from(std::vector<float>(49)); }) == ErrorKind::kUsage);
  CHECK(kind_of([&] { model.make_cache({.capacity = -1}); }) == ErrorKind::kUsage);
  const Bytes bytes(2 * 16 * 4);
  CHECK(kind_of([&] {
          whole.cache.load(0, CachePart::kKeys, 0, {DType::kF32, {1, 1, 32}, bytes});
        }) == ErrorKind::kInput);
  CHECK(kind_of([&] {
          whole.cache.load(0, CachePart::kKeys, 150, {DType::kF32, {1, 2, 16}, bytes});
        }) == ErrorKind::kUsage);
  Bytes out(bytes.size() - 1);
  CHECK(kind_of([&] { whole.cache.save(0, CachePart::kKeys, 0, 1, DType::kF32, out); }) ==
        ErrorKind::kUsage);
  KvCache rotated_only = model.make_cache({.capacity = 4});
  rotated_only.extend(0, 1);
  out.resize(bytes.size());
  CHECK(kind_of([&] { rotated_only.save(0, CachePart::kKeys, 0, 1, DType::kF32, out); }) ==
        ErrorKind::kUsage);
  const Prefilled other({.kv_heads = 3});
  KvCache foreign = other.model->make_cache({.capacity = 4});
  foreign.extend(0, 1);
  CHECK(kind_of([&] { model.run_layer(0, hidden, slot, foreign); }) == ErrorKind::kUsage);
}

TEST_CASE("a checkpoint whose shapes do not fit is refused") {
  for (const auto& [name, shape] :
       {std::pair("model.layers.1.self_attn.k_proj.weight", std::vector<std::int64_t>{48, 32}),
        {"model.layers.0.mlp.down_proj.weight", {47, 112}},
        {"model.layers.2.input_layernorm.weight", {24}},
        {"model.norm.weight", {48, 1}},
        {"model.embed_tokens.weight", {96, 48}}}) {
    RandomCheckpoint checkpoint({});
    checkpoint.reshape(name, shape);
    CHECK(kind_of([&] { Model::load(checkpoint); }) == ErrorKind::kInput);
  }
}

TEST_CASE("devices and compute types by name") {
  CHECK(parse_compute("bf16") == Compute::kBF16);
  CHECK(parse_device("cuda") == Device::kCuda);
  CHECK(kind_of([] { parse_compute("int8"); }) == ErrorKind::kUsage);
  CHECK(kind_of([] { parse_device("gpu"); }) == ErrorKind::kUsage);
  const RandomCheckpoint checkpoint({});
  CHECK(kind_of([&] { Model::load(checkpoint, {.threads = -1}); }) == ErrorKind::kUsage);
  if (!std::filesystem::exists("/dev/nvidiactl") && !std::filesystem::exists("/dev/dxg")) {
    CHECK(kind_of([&] { Model::load(checkpoint, {.device = Device::kCuda}); }) ==
          ErrorKind::kDevice);
    CHECK(Model::load(checkpoint)->device() == "cpu");
  }
}
