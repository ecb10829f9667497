#include "kv/model/importance.hh"

#include <ATen/TensorOperators.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cdist.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/softmax.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace kv {
namespace {

constexpr std::int64_t kScoresAtOnce = 1 << 22;

// The weight that 90 % of them do not exceed.
float high_of(std::vector<float> weights) {
  const auto at = (weights.size() * 9 + 9) / 10 - 1;
  std::ranges::nth_element(weights, weights.begin() + static_cast<std::ptrdiff_t>(at));
  return weights[at];
}

// Weights from means; `rows` says of how many rows each is.
void finish(std::vector<float>& weights, const std::vector<std::int64_t>& rows) {
  std::vector<float> asked_for;
  for (std::size_t slot = 0; slot < weights.size(); ++slot) {
    if (rows[slot] >= ImportanceMeter::kLeastRows) asked_for.push_back(weights[slot]);
  }
  if (asked_for.empty() ||
      !std::ranges::all_of(weights, [](float w) { return std::isfinite(w); })) {
    std::ranges::fill(weights, 1.0f);
    return;
  }
  const float high = high_of(std::move(asked_for));
  for (std::size_t slot = 0; slot < weights.size(); ++slot) {
    if (rows[slot] < ImportanceMeter::kLeastRows) weights[slot] = std::max(weights[slot], high);
  }
}

}  // namespace

ImportanceMeter::ImportanceMeter(const ModelConfig& config, const KvCache::State& cache,
                                 std::int64_t rows)
    : config_(config), cache_(cache), pass_rows_(rows), sums_(config.layers.size()) {}

void ImportanceMeter::begin_block(std::int64_t first_slot, std::int64_t count) {
  rows_.clear();
  const std::int64_t samples = std::min(pass_rows_, kSampledRows);
  for (std::int64_t i = 0; i < samples; ++i) {
    const std::int64_t row = (i + 1) * pass_rows_ / samples - 1 - done_rows_;
    if (row < 0 || row >= count) continue;
    rows_.push_back(row);
    positions_.push_back(cache_.positions[static_cast<std::size_t>(first_slot + row)]);
  }
  done_rows_ += count;
}

std::span<const std::int32_t> ImportanceMeter::positions() const {
  return std::span(positions_).last(rows_.size());
}

at::Tensor ImportanceMeter::index() const {
  return at::from_blob(const_cast<std::int64_t*>(rows_.data()),
                       {static_cast<std::int64_t>(rows_.size())}, at::TensorOptions(at::kLong))
      .to(cache_.device);
}

ImportanceMeter::Sums& ImportanceMeter::sums_of(std::int64_t layer) {
  Sums& sums = sums_[static_cast<std::size_t>(layer)];
  sums.keys.resize(static_cast<std::size_t>(cache_.size));
  sums.values.resize(static_cast<std::size_t>(cache_.size));
  return sums;
}

void ImportanceMeter::add_plain(std::int64_t layer, const at::Tensor& queries) {
  const LayerGeometry& geometry = cache_.geometry[static_cast<std::size_t>(layer)];
  const LayerStore& store = cache_.layers[static_cast<std::size_t>(layer)];
  const std::int64_t heads = geometry.kv_heads, group = config_.query_heads / heads;
  const auto of_heads = [&](const at::Tensor& rows) {
    return rows.narrow(0, 0, cache_.size).to(at::kFloat).transpose(0, 1).contiguous();
  };
  const at::Tensor keys = of_heads(store.keys), values = of_heads(store.values);
  const at::Tensor key_positions = cache_.device_positions.narrow(0, 0, cache_.size);
  Sums& sums = sums_of(layer);
  const auto add = [](const at::Tensor& squares, std::vector<double>& to) {
    const at::Tensor added = squares.sum(at::IntArrayRef({0, 1}), false, at::kDouble).to(at::kCPU);
    const double* from = added.const_data_ptr<double>();
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
  };
  const auto count = static_cast<std::int64_t>(rows_.size());
  const std::int64_t step = std::max<std::int64_t>(
      1, kScoresAtOnce / (config_.query_heads * std::max<std::int64_t>(1, cache_.size)));
  for (std::int64_t begin = 0; begin < count; begin += step) {
    const std::int64_t rows = std::min(step, count - begin);
    const at::Tensor row_queries = queries.narrow(0, begin, rows)
                                       .to(at::kFloat)
                                       .unflatten(1, {heads, group})
                                       .permute({1, 0, 2, 3})
                                       .flatten(1, 2);
    const at::Tensor at_positions =
        at::from_blob(const_cast<std::int32_t*>(positions().data()) + begin, {rows, 1},
                      at::TensorOptions(at::kInt))
            .to(cache_.device)
            .expand({rows, group})
            .reshape({rows * group, 1});
    const at::Tensor distances = at_positions - key_positions;  // [rows * group][slots]
    at::Tensor hidden = distances < 0;
    if (store.window > 0) hidden = hidden.logical_or(distances >= store.window);
    const double scale = 1.0 / std::sqrt(config_.score_scalar(geometry));
    const at::Tensor attention =
        at::softmax((at::bmm(row_queries, keys.transpose(1, 2)) * scale)
                        .masked_fill(hidden, -std::numeric_limits<float>::infinity()),
                    -1);
    const at::Tensor outputs = at::bmm(attention, values);
    const at::Tensor squares = attention.square().masked_fill(distances < kLeastDistance, 0.0);
    add(squares, sums.values);
    // Mode 2: differences, not the products that would cancel where o is close to v_t.
    add(squares * at::cdist(outputs, values, 2.0, 2).square(), sums.keys);
  }
}

TokenImportance ImportanceMeter::weights_of(std::size_t layer) const {
  const Sums& sums = sums_[layer];
  const std::int64_t window = cache_.layers[layer].window;
  const auto slots = static_cast<std::size_t>(cache_.size);
  TokenImportance weights;
  weights.keys.resize(slots);
  weights.values.resize(slots);
  std::vector<std::int64_t> rows(slots);
  const auto rows_before = [&](std::int64_t position) {
    return std::ranges::lower_bound(positions_, position, {},
                                    [](std::int32_t p) { return std::int64_t{p}; }) -
           positions_.begin();
  };
  for (std::size_t slot = 0; slot < slots; ++slot) {
    const std::int64_t position = cache_.positions[slot];
    const std::int64_t end =
        window > 0 ? rows_before(position + window) : static_cast<std::int64_t>(positions_.size());
    rows[slot] = std::max<std::int64_t>(0, end - rows_before(position + kLeastDistance));
    if (rows[slot] == 0) continue;
    const auto terms = static_cast<double>(rows[slot] * config_.query_heads);
    weights.keys[slot] = static_cast<float>(sums.keys[slot] / terms);
    weights.values[slot] = static_cast<float>(sums.values[slot] / terms);
  }
  finish(weights.keys, rows);
  finish(weights.values, rows);
  return weights;
}

std::vector<TokenImportance> ImportanceMeter::weights() const {
  std::vector<TokenImportance> all;
  for (std::size_t layer = 0; layer < sums_.size(); ++layer) all.push_back(weights_of(layer));
  return all;
}

}  // namespace kv
