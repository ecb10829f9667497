#pragma once
// CacheBlend's fusion (EuroSys 2025, section 4): the chosen tokens' keys and values are recomputed
// layer by layer, each attending to the fused cache of its layer, and replace those that were
// loaded.

#include "kv/blend/pieces.hh"
#include "kv/blend/plan.hh"
#include "kv/blend/select.hh"
#include "kv/model/model.hh"

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace kv {

struct FuseOptions {
  Selection selection = Selection::kHkvd;
  Amount amount{0.15};
  // hkvd only: after the check layer's choice of the first amount, at each following layer a choice
  // among those by that layer's deviation. Empty: `amount` alone.
  std::vector<Amount> gradual;
  // hkvd: where deviations are measured, from 1 (layer 0 has the same keys and values in every
  // context); -1: 1. qattn: the first layer whose attention counts; -1: from a quarter of the
  // depth on.
  std::int64_t check_layer = -1;
  Measure measure = Measure::kValues;
  // When set, `amount` is the least, a share, and as many more are recomputed as balanced_share()
  // finds: asked at the choice, it gives the seconds that loading a layer takes. A row's time is
  // that of hkvd's first layer, or of some rows for a trial. Not with gradual, and not with qattn,
  // which has read everything before it chooses.
  std::function<double()> layer_load_s = {};
  std::uint64_t seed = 0;                           // of kRandom
  bool logits = false;                              // of the last slot, when it is a fresh one
  std::function<void(std::int64_t)> on_layer = {};  // behind each layer, which is as it will stay
};

struct FuseReport {
  std::vector<std::int64_t> chosen;  // slots recomputed through all layers, without fresh ones
  // Rows through whole layers, and rows of which only keys and values were made.
  std::int64_t row_layers = 0, key_value_rows = 0;
  double flops = 0;      // multiplications and additions, of products with weights and attention
  double share = 0;      // with layer_load_s: the one that was chosen
  double row_s = 0;      // and the time of a row of a layer that it was chosen by
  double wait_s = 0;     // for layers
  double compute_s = 0;  // everything else
  std::vector<float> logits;
};

// Layer by layer: `wait` returns when the layer's rows of all pieces are in the cache, which holds
// the layout's slots and keeps un-rotated keys. Throws kUsage where an option does not fit the
// model or the layout: a check layer that is none, qattn without a suffix.
FuseReport fuse(const Model& model, const Layout& layout, KvCache& cache,
                const std::function<void(std::int64_t)>& wait, const FuseOptions& options);

}  // namespace kv
