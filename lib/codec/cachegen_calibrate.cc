#include "cachegen.hh"
#include "kv/container/rope.hh"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace kv {
namespace {

constexpr double kScale = 1u << kRansScaleBits;
constexpr double kEscapeBits = 16;    // about what a number in the list of escapes takes
constexpr std::int32_t kMost = 1023;  // symbols beyond are escapes anyway

// How often a channel had which symbol.
struct Histogram {
  std::int32_t most = 0;  // counted from -most to most
  std::vector<std::uint32_t> counts;
  std::uint32_t beyond = 0;

  explicit Histogram(std::int32_t range)
      : most(range), counts(static_cast<std::size_t>(2 * range + 1)) {}
  void add(std::int32_t value) {
    if (value < -most || value > most) {
      ++beyond;
    } else {
      ++counts[static_cast<std::size_t>(value + most)];
    }
  }
  std::uint64_t total() const {
    return std::accumulate(counts.begin(), counts.end(), std::uint64_t{beyond});
  }
  // Bits of all values, were the counts known.
  double entropy_bits() const {
    const auto all = static_cast<double>(total());
    double bits = 0;
    const auto add = [&](std::uint32_t count) {
      if (count > 0) bits -= count * std::log2(count / all);
    };
    for (const std::uint32_t count : counts) add(count);
    add(beyond);
    return bits;
  }
  std::int32_t median() const {
    std::uint64_t sum = 0, half = (total() - beyond) / 2;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      sum += counts[i];
      if (sum > half) return static_cast<std::int32_t>(i) - most;
    }
    return 0;
  }
};

// Counts to frequencies that add up to 4096, none of them 0. Half a count more keeps what the
// calibration set did not show.
void set_frequencies(CacheGenModel& model, std::span<const double> counts) {
  double all = 0;
  for (const double count : counts) all += count + 0.5;
  int left = 1 << kRansScaleBits;
  for (std::size_t s = 0; s < counts.size(); ++s) {
    const auto share = static_cast<int>(std::lround((counts[s] + 0.5) / all * kScale));
    model.frequencies[s] = static_cast<std::uint16_t>(std::max(1, share));
    left -= model.frequencies[s];
  }
  // What rounding took or gave goes to the most frequent, which feel it least.
  for (; left != 0; left += left > 0 ? -1 : 1) {
    auto& most = *std::max_element(model.frequencies.begin(),
                                   model.frequencies.begin() + std::ptrdiff_t(counts.size()));
    most = static_cast<std::uint16_t>(left > 0 ? most + 1 : most - 1);
  }
}

// The model with the given number of symbols and of raw bits, and the bits of all values by it.
double fit(const Histogram& histogram, int symbols, int shift, CacheGenModel& model) {
  const std::int32_t offset = histogram.median() - ((1 << shift) >> 1);
  model.offset = static_cast<std::int16_t>(offset);
  model.shift = static_cast<std::uint8_t>(shift);
  model.symbols = static_cast<std::uint8_t>(symbols);
  std::array<double, 32> counts{};
  const int half = symbols / 2 - 1;
  double escapes = histogram.beyond;
  for (std::size_t i = 0; i < histogram.counts.size(); ++i) {
    const std::int32_t high = (static_cast<std::int32_t>(i) - histogram.most - offset) >> shift;
    if (high < -half || high > half) {
      escapes += histogram.counts[i];
    } else {
      counts[static_cast<std::size_t>(high + half)] += histogram.counts[i];
    }
  }
  counts[static_cast<std::size_t>(symbols - 1)] = escapes;
  set_frequencies(model, std::span(counts).first(static_cast<std::size_t>(symbols)));
  double bits = escapes * kEscapeBits;
  for (int s = 0; s < symbols; ++s) {
    const auto i = static_cast<std::size_t>(s);
    bits -= counts[i] * std::log2(model.frequencies[i] / kScale);
    if (s + 1 < symbols) bits += counts[i] * shift;
  }
  return bits;
}

CacheGenModel best_model(const Histogram& histogram, double& bits) {
  CacheGenModel best, model;
  bits = INFINITY;
  for (const int symbols : {4, 8, 16, 32}) {
    double last = INFINITY;
    for (int shift = 0; shift < 10; ++shift) {
      const double now = fit(histogram, symbols, shift, model);
      if (now < bits) {
        bits = now;
        best = model;
      }
      if (now > last && std::isfinite(last)) break;
      last = now;
    }
  }
  return best;
}

class Calibration {
 public:
  Calibration(const std::vector<std::string>& paths, bool rotated) : rotated_(rotated) {
    for (const std::string& path : paths) {
      IndexedFile& file = *files_.emplace_back(std::make_unique<IndexedFile>(path));
      for (std::size_t member = 0; member < file.members(); ++member) {
        const Meta& meta = file.meta(member);
        const std::string place = fmt::format("{}: member {}", path, member);
        if (meta.layers.empty()) fail_input("{}: no layer has a cache", place);
        if (meta.rope_applied) fail_input("{}: keys are stored rotated", place);
        require_same_model(meta, place, first().model);
        if (meta.layers != first().layers) fail_input("{}: other layers than in the first", place);
      }
    }
    if (files_.empty() || files_[0]->members() == 0) fail_usage("give kv files to count from");
  }

  CacheGenProfile profile(CacheGenRates* rates) {
    if (rates) {
      *rates = {};
      rates->delta_entropy.resize(kCacheGenFactors.size());
      rates->delta_bits.resize(kCacheGenFactors.size());
    }
    std::vector<CacheGenProfile::Tensor> tensors;
    for (const auto& [layer, kind] : first().tensors()) {
      if (kind != format::Kind::kE) tensors.push_back(tensor(layer, kind, rates));
    }
    if (rates) {
      const auto all = static_cast<double>(rates->values);
      rates->anchor_entropy /= all;
      rates->anchor_bits /= all;
      for (double& bits : rates->delta_entropy) bits /= all;
      for (double& bits : rates->delta_bits) bits /= all;
    }
    return {static_cast<int>(kCacheGenFactors.size()), rotated_, std::move(tensors), "calibration"};
  }

 private:
  const Meta& first() const { return files_[0]->meta(0); }

  CacheGenProfile::Tensor tensor(std::uint32_t layer, format::Kind kind, CacheGenRates* rates) {
    const TensorView shape = first().shape_of({.kind = kind, .layer = layer});
    CacheGenProfile::Tensor tensor{
        layer, kind, static_cast<std::uint32_t>(shape.row_values()), {}, {}};
    const std::uint32_t layers = first().layers.back().index + 1, third = layer * 3 / layers;
    std::vector<std::vector<Histogram>> counts;  // anchors, then levels
    counts.emplace_back(tensor.channels, Histogram(127));
    for (const float factor : kCacheGenFactors) {
      tensor.steps.push_back(factor * 0.5f * static_cast<float>(third + 1));
      // Sixteen times the RMS: more is rare.
      const auto range = static_cast<std::int32_t>(std::ceil(16 / tensor.steps.back()));
      counts.emplace_back(tensor.channels, Histogram(std::min(range, kMost)));
    }
    for (const auto& file : files_) {
      for (std::size_t member = 0; member < file->members(); ++member) {
        count_member(*file, member, tensor, counts);
      }
    }
    for (std::size_t level = 0; level < counts.size(); ++level) {
      for (const Histogram& histogram : counts[level]) {
        double bits = 0;
        tensor.models.push_back(best_model(histogram, bits));
        if (!rates) continue;
        (level == 0 ? rates->anchor_bits : rates->delta_bits[level - 1]) += bits;
        (level == 0 ? rates->anchor_entropy : rates->delta_entropy[level - 1]) +=
            histogram.entropy_bits();
        if (level < 2) rates->values += histogram.total();
      }
    }
    return tensor;
  }

  void count_member(const IndexedFile& file, std::size_t member,
                    const CacheGenProfile::Tensor& tensor,
                    std::vector<std::vector<Histogram>>& counts) {
    const std::vector<format::IndexEntry>& index = file.index(member);
    for (std::size_t entry = 0; entry < index.size(); ++entry) {
      if (index[entry].tile.layer != tensor.layer || index[entry].tile.kind != tensor.kind)
        continue;
      const Tile tile = file.tile(member, entry);
      const Meta& meta = file.meta(member);
      const TensorView view = decoded_tile(meta, tile, "calibration", raw_);
      if (view.dtype == DType::kI8) fail_usage("int8 caches have no scale to count by");
      values_.resize(static_cast<std::size_t>(view.shape[0] * view.row_values()));
      convert(view.bytes, view.dtype, std::as_writable_bytes(std::span(values_)), DType::kF32);
      if (rotated_ && tensor.kind == format::Kind::kK) {
        rotate_keys(rope_of(meta, tensor.layer),
                    static_cast<std::uint64_t>(meta.first_position) + tile.header.token_begin,
                    view.shape[1], view.shape[2], values_);
      }
      for (std::size_t level = 1; level < counts.size(); ++level) {
        symbols_.quantise(values_, view.row_values(), tensor.steps[level - 1]);
        if (!symbols_.possible) break;  // the encoder leaves such a tile, too
        count(counts, level);
      }
    }
  }

  void count(std::vector<std::vector<Histogram>>& counts, std::size_t level) {
    const auto channels = static_cast<std::size_t>(symbols_.channels);
    for (std::int64_t token = 0; token < symbols_.tokens; ++token) {
      const bool anchor = CacheGenSymbols::is_anchor(token);
      if (anchor && level > 1) continue;  // of all levels the same
      const std::int32_t* row = &symbols_.values[static_cast<std::size_t>(token) * channels];
      std::vector<Histogram>& to = counts[anchor ? 0 : level];
      for (std::size_t c = 0; c < channels; ++c) to[c].add(row[c]);
    }
  }

  static const Rope& rope_of(const Meta& meta, std::uint32_t index) {
    const auto found = std::find_if(meta.layers.begin(), meta.layers.end(),
                                    [&](const LayerMeta& layer) { return layer.index == index; });
    return found->geometry.rope;
  }

  bool rotated_;
  std::vector<std::unique_ptr<IndexedFile>> files_;
  Bytes raw_;
  std::vector<float> values_;
  CacheGenSymbols symbols_;
};

}  // namespace

CacheGenProfile make_cachegen_profile(const std::vector<std::string>& paths, bool rotated,
                                      CacheGenRates* rates) {
  return Calibration(paths, rotated).profile(rates);
}

}  // namespace kv
