#pragma once
// How many tokens can be recomputed while the rest is read: CacheBlend's controller (EuroSys 2025,
// section 5.2). Numbers in, decisions out.

#include <cstdint>
#include <string>
#include <vector>

namespace kv {

// A layer of the fusion at hand. Rows of all layers count alike.
struct LayerCost {
  double row_s = 0;         // computing a row
  std::int64_t reused = 0;  // rows that may be recomputed
  std::int64_t fresh = 0;   // rows that must be computed
  double load_s = 0;        // reading its keys and values
};

// Of `reused`, the largest share whose recomputing takes no longer than loading does; at least
// `floor`, at most 1.
double balanced_share(const LayerCost& layer, double floor);

struct StorageDevice {
  std::string name;
  double bytes_per_s = 0;
  double latency_s = 0;  // before the first byte
};
// What caches are kept on: nominal rates, of one stream.
const std::vector<StorageDevice>& storage_devices();

struct FusionSize {
  std::int64_t layers = 0, check_layers = 0;  // the latter go through with all rows
  std::int64_t tokens = 0, reused = 0, fresh = 0;
  std::uint64_t bytes = 0;  // of keys and values, as they lie in the files
  double row_s = 0;         // a token through a layer, in a prefill of all
};

struct DevicePlan {
  StorageDevice device;
  double load_s = 0, share = 0, recompute_s = 0;
  double total_s = 0;   // layer by layer the longer of both, and the first layer's loading
  bool hidden = false;  // loading takes no longer than recomputing
};
struct Plan {
  double prefill_s = 0;  // of everything
  std::vector<DevicePlan> devices;
  // The slowest device whose loading hides behind recomputing the floor's share: the cheapest that
  // will do. -1: none does.
  std::int64_t cheapest = -1;
};
Plan plan_for(const FusionSize& size, const std::vector<StorageDevice>& devices, double floor);

}  // namespace kv
