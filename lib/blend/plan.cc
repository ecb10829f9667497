#include "kv/blend/plan.hh"

#include "kv/base/error.hh"

#include <algorithm>
#include <cmath>

namespace kv {

double balanced_share(const LayerCost& layer, double floor) {
  if (layer.reused == 0 || layer.row_s <= 0) return floor;
  const double rows = layer.load_s / layer.row_s - static_cast<double>(layer.fresh);
  return std::clamp(rows / static_cast<double>(layer.reused), floor, 1.0);
}

const std::vector<StorageDevice>& storage_devices() {
  static const std::vector<StorageDevice> devices = {
      {"RAM", 20e9, 0},        {"100 Gb/s", 12.5e9, 0}, {"NVMe", 4.8e9, 0.0001},
      {"25 Gb/s", 3.125e9, 0}, {"10 Gb/s", 1.25e9, 0},  {"SATA", 0.55e9, 0.0001},
      {"S3", 0.1e9, 0.05}};
  return devices;
}

Plan plan_for(const FusionSize& size, const std::vector<StorageDevice>& devices, double floor) {
  const auto layers = static_cast<double>(size.layers);
  const auto check_layers = static_cast<double>(size.check_layers);
  const auto recompute_s = [&](double share) {
    const auto reused = static_cast<double>(size.reused), fresh = static_cast<double>(size.fresh);
    return size.row_s *
           (check_layers * (reused + fresh) + (layers - check_layers) * (share * reused + fresh));
  };
  Plan plan;
  plan.prefill_s = size.row_s * layers * static_cast<double>(size.tokens);
  for (const StorageDevice& device : devices) {
    DevicePlan own{.device = device};
    const double layer_s = static_cast<double>(size.bytes) / device.bytes_per_s / layers;
    own.load_s = device.latency_s + layer_s * layers;
    own.share = balanced_share({size.row_s, size.reused, size.fresh, layer_s}, floor);
    own.recompute_s = recompute_s(own.share);
    own.total_s =
        device.latency_s + layer_s + std::max(own.recompute_s, layer_s * std::max(0.0, layers - 1));
    const double at_floor = recompute_s(floor);
    own.hidden = own.load_s <= at_floor;
    if (own.hidden &&
        (plan.cheapest < 0 ||
         device.bytes_per_s <
             plan.devices[static_cast<std::size_t>(plan.cheapest)].device.bytes_per_s)) {
      plan.cheapest = std::ssize(plan.devices);
    }
    plan.devices.push_back(std::move(own));
  }
  return plan;
}

}  // namespace kv
