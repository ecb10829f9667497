#include "kv/blend/verify.hh"

#include "kv/blend/cost.hh"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

namespace kv {
namespace {

using Clock = std::chrono::steady_clock;

std::vector<float> rows_of(const KvCache& cache, std::int64_t layer, CachePart part,
                           const Stretch& of) {
  const LayerGeometry& geometry = cache.geometry(layer);
  const std::int64_t dim = part == CachePart::kKeys ? geometry.k_dim : geometry.v_dim;
  std::vector<float> rows(static_cast<std::size_t>(of.count * geometry.kv_heads * dim));
  cache.save(layer, part, of.begin, of.count, DType::kF32, std::as_writable_bytes(std::span(rows)));
  return rows;
}

double relative_distance(const KvCache& a, const KvCache& b, std::int64_t layer, CachePart part,
                         const std::vector<Stretch>& of) {
  double squares = 0, norm = 0;
  for (const Stretch& stretch : of) {
    const std::vector<float> x = rows_of(a, layer, part, stretch);
    const std::vector<float> y = rows_of(b, layer, part, stretch);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double difference = static_cast<double>(x[i]) - y[i];
      squares += difference * difference;
      norm += static_cast<double>(y[i]) * y[i];
    }
  }
  return norm > 0 ? std::sqrt(squares / norm) : 0;
}

std::int32_t most_likely(std::span<const float> logits) {
  return static_cast<std::int32_t>(std::ranges::max_element(logits) - logits.begin());
}

double log_sum(std::span<const float> logits) {
  const double most = std::ranges::max(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - most);
  return most + std::log(sum);
}

// A cache keeps no hidden state: its last token is run once more.
std::vector<float> last_logits(const Model& model, const Layout& layout, KvCache& cache) {
  cache.truncate(layout.size() - 1);
  return model.forward(std::span(layout.ids).last(1), cache).logits;
}

}  // namespace

double kl_divergence(std::span<const float> a, std::span<const float> b) {
  const double a_sum = log_sum(a), b_sum = log_sum(b);
  double divergence = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double log_a = a[i] - a_sum;
    divergence += std::exp(log_a) * (log_a - (b[i] - b_sum));
  }
  return std::max(0.0, divergence);
}

Comparison compare_with_prefill(const Session& session, const Layout& layout, KvCache& fused,
                                std::vector<LoadPart> loaded, std::int64_t next_tokens) {
  const Model& model = *session.model;
  const ModelConfig& config = model.config();
  Comparison result;
  next_tokens = std::min(next_tokens, config.context - layout.size() + 1);
  KvCache whole =
      model.make_cache({.capacity = layout.size() + next_tokens, .keep_unrotated_keys = true});
  const Clock::time_point began = Clock::now();
  model.forward(layout.ids, whole, {.logits = LogitRows::kNone});
  result.prefill_s = std::chrono::duration<double>(Clock::now() - began).count();
  std::vector<std::int64_t> slots(layout.ids.size());
  std::iota(slots.begin(), slots.end(), 0);

  KvCache before = model.make_cache(
      {.capacity = layout.size(), .keep_unrotated_keys = true, .layers_on_demand = true});
  before.extend(0, layout.size());
  LayerLoad load(std::move(loaded), before, {.threads = 1, .ahead = 1, .open_layers = true});
  for (std::int64_t layer = 0; layer < whole.layer_count(); ++layer) {
    load.wait(layer);
    const auto distance = [&](const KvCache& cache, CachePart part) {
      return relative_distance(cache, whole, layer, part, layout.reused);
    };
    result.layers.push_back({distance(before, CachePart::kKeys), distance(fused, CachePart::kKeys),
                             distance(before, CachePart::kValues),
                             distance(fused, CachePart::kValues)});
    before.close_layer(layer);
    result.prefill_flops += layer_flops(config, layer, slots);
  }

  std::vector<std::int32_t> said;
  std::vector<std::vector<float>> rows{last_logits(model, layout, whole)};
  const auto ended = [&] { return std::ranges::count(config.eos_ids, most_likely(rows.back())); };
  while (std::ssize(rows) < next_tokens && !ended()) {
    said.push_back(most_likely(rows.back()));
    rows.push_back(model.forward(std::span(said).last(1), whole).logits);
  }
  std::vector<float> other = last_logits(model, layout, fused);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double divergence = kl_divergence(rows[i], other);
    result.kld_mean += divergence / static_cast<double>(rows.size());
    result.kld_max = std::max(result.kld_max, divergence);
    if (most_likely(rows[i]) == most_likely(other)) result.top1 += 1;
    if (i < said.size()) other = model.forward(std::span(said).subspan(i, 1), fused).logits;
  }
  result.next_tokens = std::ssize(rows);
  result.top1 /= static_cast<double>(rows.size());
  return result;
}

}  // namespace kv
