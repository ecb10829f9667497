#include "kv/blend/fuse.hh"

#include "kv/base/error.hh"
#include "kv/blend/cost.hh"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <chrono>
#include <iterator>

namespace kv {
namespace {

using Clock = std::chrono::steady_clock;
using Slots = std::vector<std::int64_t>;

constexpr std::size_t kTrialRows = 256;

double seconds_since(Clock::time_point began) {
  return std::chrono::duration<double>(Clock::now() - began).count();
}

class Fusion {
 public:
  Fusion(const Model& model, const Layout& layout, KvCache& cache,
         const std::function<void(std::int64_t)>& wait, const FuseOptions& options)
      : model_(model),
        layout_(layout),
        cache_(cache),
        wait_(wait),
        options_(options),
        candidates_(layout.candidates()) {}

  FuseReport run() {
    const Clock::time_point began = Clock::now();
    choose_before();
    rows_ = with_fresh(chosen_);
    hidden_ = embedded(rows_);
    for (std::int64_t layer = 0; layer < layers(); ++layer) {
      ready(layer);
      if (next_filter_ < filters_.size() && layer >= check_layer()) filter(layer);
      const Clock::time_point computing = Clock::now();
      through(layer);
      layer_s_ = seconds_since(computing);
      if (options_.on_layer) options_.on_layer(layer);
    }
    if (options_.logits && last_is_fresh()) {
      report_.logits = Model::floats_of(model_.logits(hidden_.narrow(0, hidden_.size(0) - 1, 1)));
    }
    report_.chosen = chosen_;
    report_.compute_s = seconds_since(began) - report_.wait_s;
    return std::move(report_);
  }

 private:
  std::int64_t layers() const { return cache_.layer_count(); }
  std::int64_t check_layer() const {
    if (options_.check_layer >= 0) return options_.check_layer;
    return options_.selection == Selection::kQuestion ? (layers() + 3) / 4 : 1;
  }
  bool last_is_fresh() const {
    return !layout_.fresh.empty() && layout_.fresh.back() == layout_.size() - 1;
  }

  void ready(std::int64_t layer) {
    const Clock::time_point began = Clock::now();
    wait_(layer);
    report_.wait_s += seconds_since(began);
  }

  // The amount, which may depend on what loading takes.
  std::int64_t amount_for(double row_s) {
    if (!options_.layer_load_s) return options_.amount.of(std::ssize(candidates_));
    report_.row_s = row_s;
    report_.share = balanced_share(
        {row_s, std::ssize(candidates_), std::ssize(layout_.fresh), options_.layer_load_s()},
        options_.amount.share);
    return Amount{report_.share}.of(std::ssize(candidates_));
  }

  // Of some rows through layer 0, where keys and values are the same in every context: nothing is
  // changed but for roundings. The second time is what counts.
  double trial_row_s() {
    const auto count = std::min<std::size_t>(candidates_.size(), kTrialRows);
    if (!options_.layer_load_s || count == 0) return 0;
    ready(0);
    const Slots slots(candidates_.begin(),
                      candidates_.begin() + static_cast<std::ptrdiff_t>(count));
    double row_s = 0;
    for (int i = 0; i < 2; ++i) {
      at::Tensor hidden = embedded(slots);
      const Clock::time_point began = Clock::now();
      run_rows(0, hidden, slots);
      row_s = seconds_since(began) / static_cast<double>(count);
    }
    return row_s;
  }

  // Who goes through layer 0: those chosen, or all, of whom some are chosen at the check layer.
  void choose_before() {
    const auto count = [&] { return amount_for(trial_row_s()); };
    switch (options_.selection) {
      case Selection::kNone:
        return;
      case Selection::kFirst:
        if (options_.layer_load_s) count();
        chosen_ = first_of(layout_.reused,
                           options_.layer_load_s ? Amount{report_.share} : options_.amount);
        return;
      case Selection::kRandom:
        chosen_ = random_of(candidates_, count(), options_.seed);
        return;
      case Selection::kQuestion:
        if (options_.layer_load_s) {
          fail_usage("-r auto: qattn reads everything before it can choose; give a share");
        }
        if (count() > 0) chosen_ = highest(candidates_, question_mass(), count());
        return;
      case Selection::kHkvd:
        filters_ = options_.gradual;
        if (options_.layer_load_s && !filters_.empty()) {
          fail_usage("-r auto: --gradual has amounts of its own");
        }
        if (filters_.empty()) filters_.push_back(options_.amount);
        if (check_layer() < 1 || check_layer() + std::ssize(filters_) > layers()) {
          fail_usage("--check-layer {} and {} amounts: the layers to choose at are 1 to {}",
                     check_layer(), filters_.size(), layers() - 1);
        }
        const std::int64_t most = filters_.front().of(std::ssize(candidates_));
        if (most > 0 || options_.layer_load_s) chosen_ = candidates_;
        if (options_.layer_load_s) return;
        // None or all: there is nothing to choose.
        if (most == 0 || (filters_.size() == 1 && most == std::ssize(candidates_))) {
          filters_.clear();
        }
        return;
    }
  }

  Slots with_fresh(const Slots& slots) const {
    Slots all;
    std::ranges::merge(slots, layout_.fresh, std::back_inserter(all));
    return all;
  }

  at::Tensor embedded(const Slots& slots) const {
    std::vector<std::int32_t> ids;
    for (const std::int64_t slot : slots)
      ids.push_back(layout_.ids[static_cast<std::size_t>(slot)]);
    return model_.embed(ids);
  }

  // By slot, over the layers that count: attention of the question in a pass over what was loaded.
  std::vector<double> question_mass() {
    const std::int64_t rows = layout_.size() - layout_.suffix_begin;
    if (rows == 0) fail_usage("--select qattn: needs a suffix, whose attention chooses");
    if (check_layer() >= layers()) {
      fail_usage("--check-layer {}: the model's layers are 0 to {}", check_layer(), layers() - 1);
    }
    std::vector<double> mass(static_cast<std::size_t>(layout_.size()));
    const std::span question = std::span(layout_.fresh).last(static_cast<std::size_t>(rows));
    at::Tensor hidden = embedded(layout_.fresh);
    for (std::int64_t layer = 0; layer < layers(); ++layer) {
      ready(layer);
      if (layer >= check_layer()) {
        model_.write_keys_values(layer, hidden, layout_.fresh, cache_);
        count_key_values(layer, rows);
        const std::vector<float> of_layer = model_.attention_mass(
            layer, hidden.narrow(0, hidden.size(0) - rows, rows), question, cache_);
        for (std::size_t i = 0; i < mass.size(); ++i) mass[i] += of_layer[i];
      }
      if (layer + 1 < layers()) run_rows(layer, hidden, layout_.fresh);
    }
    return mass;
  }

  // Keys and values of the rows that are left are made anew, and those that moved farthest stay.
  void filter(std::int64_t layer) {
    const std::vector<float> keys_before = saved(layer, CachePart::kKeys);
    const std::vector<float> values_before = saved(layer, CachePart::kValues);
    model_.write_keys_values(layer, hidden_, rows_, cache_);
    count_key_values(layer, std::ssize(rows_));
    const LayerGeometry& geometry = cache_.geometry(layer);
    const std::vector<double> keys =
        deviations(keys_before, saved(layer, CachePart::kKeys), geometry.kv_heads * geometry.k_dim);
    const std::vector<double> values = deviations(values_before, saved(layer, CachePart::kValues),
                                                  geometry.kv_heads * geometry.v_dim);
    const std::int64_t count = options_.layer_load_s
                                   ? amount_for(layer_s_ / static_cast<double>(rows_.size()))
                                   : filters_[next_filter_].of(std::ssize(candidates_));
    ++next_filter_;
    switch (options_.measure) {
      case Measure::kKeys:
        chosen_ = highest(chosen_, keys, count);
        break;
      case Measure::kValues:
        chosen_ = highest(chosen_, values, count);
        break;
      case Measure::kBoth:
        chosen_ = highest(chosen_, joined(keys, values, chosen_), count);
        break;
    }
    keep(with_fresh(chosen_));
  }

  // `kept` are some of rows_.
  void keep(Slots kept) {
    Slots index;
    for (std::size_t i = 0; i < rows_.size() && index.size() < kept.size(); ++i) {
      if (rows_[i] == kept[index.size()]) index.push_back(static_cast<std::int64_t>(i));
    }
    hidden_ = hidden_.index_select(
        0, at::from_blob(index.data(), {std::ssize(index)}, at::TensorOptions(at::kLong))
               .to(hidden_.device()));
    rows_ = std::move(kept);
  }

  // Empty when the measure does not ask for it.
  std::vector<float> saved(std::int64_t layer, CachePart part) const {
    const bool keys = part == CachePart::kKeys;
    if (options_.measure == (keys ? Measure::kValues : Measure::kKeys)) return {};
    const LayerGeometry& geometry = cache_.geometry(layer);
    std::vector<float> rows(static_cast<std::size_t>(cache_.size() * geometry.kv_heads *
                                                     (keys ? geometry.k_dim : geometry.v_dim)));
    cache_.save(layer, part, 0, cache_.size(), DType::kF32,
                std::as_writable_bytes(std::span(rows)));
    return rows;
  }

  // Behind the last layer nobody asks for more than keys and values, but for the last slot's row.
  void through(std::int64_t layer) {
    if (layer + 1 < layers()) {
      run_rows(layer, hidden_, rows_);
      return;
    }
    if (rows_.empty()) return;
    model_.write_keys_values(layer, hidden_, rows_, cache_);
    count_key_values(layer, std::ssize(rows_));
    if (!options_.logits || !last_is_fresh()) return;
    hidden_ = hidden_.narrow(0, hidden_.size(0) - 1, 1).contiguous();
    rows_ = {rows_.back()};
    run_rows(layer, hidden_, rows_);
  }

  void run_rows(std::int64_t layer, at::Tensor& hidden, const Slots& slots) {
    if (slots.empty()) return;
    model_.run_layer(layer, hidden, slots, cache_);
    report_.row_layers += std::ssize(slots);
    report_.flops += layer_flops(model_.config(), layer, slots);
  }

  void count_key_values(std::int64_t layer, std::int64_t rows) {
    report_.key_value_rows += rows;
    report_.flops +=
        static_cast<double>(rows) * projection_flops(model_.config(), cache_.geometry(layer));
  }

  const Model& model_;
  const Layout& layout_;
  KvCache& cache_;
  const std::function<void(std::int64_t)>& wait_;
  const FuseOptions& options_;
  Slots candidates_;
  std::vector<Amount> filters_;
  std::size_t next_filter_ = 0;
  Slots chosen_;        // so far
  Slots rows_;          // chosen and fresh ones: whose hidden states these are
  at::Tensor hidden_;   // [rows_][hidden]
  double layer_s_ = 0;  // of the last one
  FuseReport report_;
};

}  // namespace

FuseReport fuse(const Model& model, const Layout& layout, KvCache& cache,
                const std::function<void(std::int64_t)>& wait, const FuseOptions& options) {
  return Fusion(model, layout, cache, wait, options).run();
}

}  // namespace kv
