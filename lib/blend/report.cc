#include "kv/blend/report.hh"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace kv {
namespace {

using nlohmann::ordered_json;

std::int64_t tokens_of(const std::vector<Stretch>& stretches) {
  std::int64_t sum = 0;
  for (const Stretch& stretch : stretches) sum += stretch.count;
  return sum;
}

ordered_json counts(const Layout& layout, const FuseReport& fused) {
  ordered_json json = {{"tokens", layout.size()},
                       {"exact", tokens_of(layout.exact)},
                       {"reused", tokens_of(layout.reused)},
                       {"fresh", layout.fresh.size()},
                       {"recomputed", fused.chosen.size()},
                       {"prefix_repeats", layout.prefix_repeats},
                       {"bos_dropped", layout.bos_dropped},
                       {"token_layers", fused.row_layers},
                       {"key_value_token_layers", fused.key_value_rows},
                       {"flops", fused.flops},
                       {"wait_s", fused.wait_s},
                       {"compute_s", fused.compute_s}};
  if (fused.row_s > 0) {
    json["auto_share"] = fused.share;
    json["token_layer_s"] = fused.row_s;
  }
  return json;
}

}  // namespace

std::string plan_text(const FusionSize& size, const Plan& plan) {
  std::string text = fmt::format(
      "{} tokens, {} of them reused and {} new, {:.1f} MB\n"
      "prefill of all: {:.3f} s\n\n"
      "{:<12}{:>10}{:>10}{:>8}{:>14}{:>10}{:>10}\n",
      size.tokens, size.reused, size.fresh, static_cast<double>(size.bytes) / 1e6, plan.prefill_s,
      "device", "MB/s", "load s", "r", "recompute s", "total s", "speed-up");
  for (const DevicePlan& own : plan.devices) {
    text += fmt::format("{:<12}{:>10.0f}{:>10.3f}{:>7.1f}%{:>14.3f}{:>10.3f}{:>9.2f}x\n",
                        own.device.name, own.device.bytes_per_s / 1e6, own.load_s, 100 * own.share,
                        own.recompute_s, own.total_s, plan.prefill_s / own.total_s);
  }
  if (plan.cheapest < 0) return text + "\nnone loads as fast as the least share is recomputed\n";
  return text + fmt::format("\nslowest that hides behind recomputing the least share: {}\n",
                            plan.devices[static_cast<std::size_t>(plan.cheapest)].device.name);
}

std::string plan_json(const FusionSize& size, const Plan& plan) {
  ordered_json devices = ordered_json::array();
  for (const DevicePlan& own : plan.devices) {
    devices.push_back({{"device", own.device.name},
                       {"bytes_per_s", own.device.bytes_per_s},
                       {"latency_s", own.device.latency_s},
                       {"load_s", own.load_s},
                       {"share", own.share},
                       {"recompute_s", own.recompute_s},
                       {"total_s", own.total_s},
                       {"hidden", own.hidden}});
  }
  ordered_json json = {
      {"tokens", size.tokens},       {"reused", size.reused}, {"fresh", size.fresh},
      {"bytes", size.bytes},         {"layers", size.layers}, {"token_layer_s", size.row_s},
      {"prefill_s", plan.prefill_s}, {"devices", devices},    {"cheapest", nullptr}};
  if (plan.cheapest >= 0) {
    json["cheapest"] = plan.devices[static_cast<std::size_t>(plan.cheapest)].device.name;
  }
  return json.dump();
}

std::string fusion_json(const Layout& layout, const FuseReport& fused) {
  return counts(layout, fused).dump();
}

bool within(const Limits& limits, const Comparison& compared) {
  // Not the other way round: NaN is not within.
  return (limits.max_kld < 0 || compared.kld_mean <= limits.max_kld) &&
         compared.top1 >= limits.min_top1;
}

std::string comparison_text(const Layout& layout, const FuseReport& fused,
                            const Comparison& compared) {
  std::string text =
      "relative deviation of reused tokens, as read and as fused\n"
      "layer   K read  K fused   V read  V fused\n";
  for (std::size_t layer = 0; layer < compared.layers.size(); ++layer) {
    const LayerDeviation& own = compared.layers[layer];
    text += fmt::format("{:>5}{:>9.4f}{:>9.4f}{:>9.4f}{:>9.4f}\n", layer, own.keys_before,
                        own.keys_after, own.values_before, own.values_after);
  }
  text += fmt::format(
      "\n{} of {} tokens recomputed ({} exact, {} new)\n"
      "next {} tokens: KL divergence {:.5f} nats, at most {:.5f}; same token first {:.1f} %\n"
      "           seconds    GFLOP\n"
      "prefill {:>10.3f}{:>9.1f}\n"
      "fusion  {:>10.3f}{:>9.1f}\n",
      fused.chosen.size(), layout.size(), tokens_of(layout.exact), layout.fresh.size(),
      compared.next_tokens, compared.kld_mean, compared.kld_max, 100 * compared.top1,
      compared.prefill_s, compared.prefill_flops / 1e9, fused.compute_s + fused.wait_s,
      fused.flops / 1e9);
  return text;
}

std::string comparison_json(const Layout& layout, const FuseReport& fused,
                            const Comparison& compared) {
  ordered_json layers = ordered_json::array();
  for (const LayerDeviation& own : compared.layers) {
    layers.push_back({{"keys_read", own.keys_before},
                      {"keys_fused", own.keys_after},
                      {"values_read", own.values_before},
                      {"values_fused", own.values_after}});
  }
  ordered_json json = counts(layout, fused);
  json.update({{"layers", layers},
               {"next_tokens", compared.next_tokens},
               {"kld_mean", compared.kld_mean},
               {"kld_max", compared.kld_max},
               {"top1", compared.top1},
               {"prefill_s", compared.prefill_s},
               {"prefill_flops", compared.prefill_flops}});
  return json.dump();
}

}  // namespace kv
