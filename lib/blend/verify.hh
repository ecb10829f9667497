#pragma once
// What fusing cost: the fused cache beside a prefill of the whole.

#include "kv/blend/fuse.hh"

#include <cstdint>
#include <vector>

namespace kv {

// Over the reused rows of a layer, |a - b| / |b| in the Euclidean norm, b being the prefill's.
struct LayerDeviation {
  double keys_before = 0, keys_after = 0;  // of what was read, and of what it was made
  double values_before = 0, values_after = 0;
};

struct Comparison {
  std::vector<LayerDeviation> layers;
  std::int64_t next_tokens = 0;      // what the prefill's cache says next, greedily, to the end
  double kld_mean = 0, kld_max = 0;  // of the fused cache from the prefill, in nats a token
  double top1 = 0;                   // share of them that the fused cache would say too
  double prefill_s = 0, prefill_flops = 0;
};

// `fused` is the whole fused cache, all layers open, of a model that `loaded` brings the pieces of
// once more. It is left without its last slot's row. `next_tokens` is how many are compared at
// most, 1 or more.
Comparison compare_with_prefill(const Session& session, const Layout& layout, KvCache& fused,
                                std::vector<LoadPart> loaded, std::int64_t next_tokens);

// KL divergence of softmax(b) from softmax(a), in nats, of two rows of logits.
double kl_divergence(std::span<const float> a, std::span<const float> b);

}  // namespace kv
