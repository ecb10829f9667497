#include "class_choice.hh"
#include "decorrelate.hh"
#include "ecsq_tile.hh"
#include "thirds.hh"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace kv {
namespace {

constexpr int kMostInteger = 127;
// Beyond, a token is kept as it is: squares of sums would leave f32.
constexpr float kHuge = 0x1p60f;

// Rows as f32 [channels][tokens].
std::vector<float> columns_of(const TensorView& rows) {
  const std::int64_t tokens = rows.shape[0], channels = rows.row_values();
  std::vector<float> values(static_cast<std::size_t>(tokens * channels)), columns(values.size());
  convert(rows.bytes, rows.dtype, std::as_writable_bytes(std::span(values)), DType::kF32);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t c = 0; c < channels; ++c) {
      columns[static_cast<std::size_t>(c * tokens + t)] =
          values[static_cast<std::size_t>(t * channels + c)];
    }
  }
  return columns;
}

// Tokens whose norm stands out from the others', as those do that attention goes to for want of
// anything better; measured, they are worth their bits as they are. At most one of 64, the farthest
// first.
std::vector<std::size_t> outliers(std::span<const double> norms) {
  constexpr int kSpreads = 3;
  const std::size_t most = std::max<std::size_t>(1, norms.size() / 64);
  std::vector<double> sorted(norms.begin(), norms.end());
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](std::size_t percent) { return sorted[(sorted.size() - 1) * percent / 100]; };
  const double middle = at(50);
  if (!(middle > 0)) return {};
  double low = 1, high = 1;
  for (int i = 0; i < kSpreads; ++i) {
    low *= at(16) / middle;
    high *= at(84) / middle;
  }
  low = std::min(low, 0.5);
  high = std::max(high, 2.0);
  std::vector<std::pair<double, std::size_t>> found;
  for (std::size_t t = 0; t < norms.size(); ++t) {
    const double ratio = norms[t] / middle;
    if (ratio < low) found.emplace_back(ratio, t);
    if (ratio > high) found.emplace_back(1 / ratio, t);
  }
  std::sort(found.begin(), found.end());
  found.resize(std::min(found.size(), most));
  std::vector<std::size_t> tokens;
  for (const auto& [ratio, t] : found) tokens.push_back(t);
  return tokens;
}

class Encoder {
 public:
  Encoder(const TensorView& rows, const EcsqPlan& plan)
      : rows_(rows),
        plan_(plan),
        tokens_(rows.shape[0]),
        channels_(rows.row_values()),
        columns_(columns_of(rows)),
        used_(static_cast<std::size_t>(tokens_), 1) {}

  std::optional<std::vector<Bytes>> encode() {
    find_exact();
    if (std::find(used_.begin(), used_.end(), 1) == used_.end()) return std::nullopt;
    if (!find_scales()) return std::nullopt;
    steps_.tokens = plan_.tokens;
    steps_.tokens.resize(used_.size());
    if (!fit()) return std::nullopt;
    Integers integers(columns_.size());
    for (std::int64_t c = 0; c < channels_; ++c) quantise(c, integers);
    const Bytes exact_rows = take_exact();
    ByteWriter out;
    scales_.put(out);
    out.put_bytes(write_integers(scales_.classes(), steps_, exact_rows, integers));
    std::vector<Bytes> qualities = {out.take()};
    for (int quality = 1; quality <= plan_.refinements; ++quality) {
      qualities.push_back(refine(scales_, steps_, quality, integers, wanted(quality)));
    }
    return qualities;
  }

 private:
  std::span<float> column(std::int64_t c) {
    return std::span(columns_).subspan(static_cast<std::size_t>(c * tokens_),
                                       static_cast<std::size_t>(tokens_));
  }

  void find_exact() {
    for (const std::uint16_t t : plan_.exact) used_[t] = 0;
    std::vector<double> norms(used_.size());
    for (std::int64_t c = 0; c < channels_; ++c) {
      const std::span<const float> values = column(c);
      for (std::size_t t = 0; t < used_.size(); ++t) {
        // NaN is not below.
        if (!(std::fabs(values[t]) < kHuge)) used_[t] = 0;
        norms[t] += static_cast<double>(values[t]) * values[t];
      }
    }
    std::vector<double> known;
    std::vector<std::size_t> where;
    for (std::size_t t = 0; t < used_.size(); ++t) {
      if (used_[t] == 0) continue;
      known.push_back(std::sqrt(norms[t]));
      where.push_back(t);
    }
    if (known.empty() || !plan_.find_exact) return;
    for (const std::size_t i : outliers(known)) used_[where[i]] = 0;
  }

  // Means, base and rotations; what is left in the columns are coefficients.
  bool find_scales() {
    const auto count = static_cast<double>(std::accumulate(used_.begin(), used_.end(), 0));
    std::vector<double> means;
    double variance = 0, most = 0;
    for (std::int64_t c = 0; c < channels_; ++c) {
      const std::span<float> values = column(c);
      double sum = 0, squares = 0;
      for (std::size_t t = 0; t < used_.size(); ++t) {
        if (used_[t] == 0) values[t] = 0;
        sum += values[t];
      }
      const double mean = sum / count;
      for (std::size_t t = 0; t < used_.size(); ++t) {
        const double rest = used_[t] ? values[t] - mean : 0;
        squares += rest * rest;
      }
      means.push_back(mean);
      most = std::max(most, std::fabs(mean));
      variance += squares / count;
    }
    // What a mean lies beside its channel's is seen where steps are finer.
    scales_.mean_shift = plan_.refinements > 0 ? 5 : 2;
    // What rounding makes of equal values is no variance: then means are as fine as they can be.
    double base = plan_.step * std::sqrt(variance / static_cast<double>(channels_));
    if (base < most * 0x1p-20) base = std::ldexp(most, scales_.mean_shift - 14);
    if (base == 0) base = 1;
    if (base < kLeastEcsqBase || base > kMostEcsqBase) return false;
    scales_.base = static_cast<float>(base);
    const float unit = scales_.mean_unit();
    for (std::int64_t c = 0; c < channels_; ++c) {
      const double mean = std::rint(means[static_cast<std::size_t>(c)] / unit);
      if (std::fabs(mean) > 32767) return false;
      scales_.mean.push_back(static_cast<std::int16_t>(mean));
      const float off = static_cast<float>(mean) * unit;
      for (std::size_t t = 0; t < used_.size(); ++t) {
        column(c)[t] = used_[t] ? column(c)[t] - off : 0.0f;
      }
    }
    scales_.wider.resize(scales_.mean.size());
    scales_.shape.resize(scales_.mean.size());
    scales_.sigma.resize(scales_.mean.size());
    const double least = plan_.refinements > 0 ? base / 3 : base;
    scales_.rotations = find_rotations(columns_, tokens_, used_, plan_.block, least * least / 24);
    turn(scales_.rotations, tokens_, columns_);
    return true;
  }

  // Integers hold 127 steps: a token's finer step gives way first, then the channel's.
  bool fit() {
    std::vector<float> most(used_.size());
    for (std::int64_t c = 0; c < channels_; ++c) {
      for (std::size_t t = 0; t < used_.size(); ++t) {
        most[t] = std::max(most[t], std::fabs(column(c)[t]));
      }
    }
    for (std::size_t t = 0; t < used_.size(); ++t) {
      if (used_[t] == 0) steps_.tokens[t] = 0;
      while (steps_.tokens[t] < 0 && most[t] > kMostInteger * scales_.step(0, steps_.tokens[t])) {
        ++steps_.tokens[t];
      }
    }
    for (std::size_t c = 0; c < scales_.wider.size(); ++c) {
      for (std::size_t t = 0; t < used_.size(); ++t) {
        const float value = std::fabs(column(static_cast<std::int64_t>(c))[t]);
        while (value > kMostInteger * scales_.step(c, steps_.tokens[t])) {
          if (scales_.wider[c] == kMostWider) return false;
          ++scales_.wider[c];
        }
      }
    }
    return true;
  }

  // Values of a column in steps, of a quality.
  std::vector<float> scaled(std::int64_t c, int quality) {
    std::array<float, 2 * kMostTokenStep + 1> inverse;
    for (int step = -kMostTokenStep; step <= kMostTokenStep; ++step) {
      inverse[static_cast<std::size_t>(step + kMostTokenStep)] =
          1.0f / scales_.step(static_cast<std::size_t>(c), step, quality);
    }
    const std::span<const float> values = column(c);
    std::vector<float> out(values.size());
    for (std::size_t t = 0; t < out.size(); ++t) {
      out[t] = values[t] * inverse[static_cast<std::size_t>(steps_.tokens[t] + kMostTokenStep)];
    }
    return out;
  }

  std::vector<ValueCount> counts_of(const std::vector<float>& values) const {
    constexpr std::size_t kValues = 2 * kMostInteger + 1;
    const auto [least, most] = std::minmax_element(steps_.tokens.begin(), steps_.tokens.end());
    std::vector<std::uint32_t> counts(static_cast<std::size_t>(*most - *least + 1) * kValues);
    for (std::size_t t = 0; t < used_.size(); ++t) {
      if (used_[t] == 0) continue;
      const auto step = static_cast<std::size_t>(steps_.tokens[t] - *least);
      ++counts[step * kValues + static_cast<std::size_t>(rounded(values[t]) + kMostInteger)];
    }
    std::vector<ValueCount> entries;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      if (counts[i] == 0) continue;
      entries.push_back({static_cast<int>(i / kValues) + *least,
                         static_cast<int>(i % kValues) - kMostInteger, counts[i]});
    }
    return entries;
  }
  static int rounded(float value) {
    return static_cast<int>(std::clamp<long>(std::lrint(value), -kMostInteger, kMostInteger));
  }

  void quantise(std::int64_t c, Integers& out) {
    const auto at = static_cast<std::size_t>(c);
    const std::vector<float> values = scaled(c, 0);
    ClassChoice choice;
    if (plan_.refinements == 0) {
      choice = choose_class(counts_of(values), kLeastPlace, kMostPlace);
    } else {
      // Where the base is all zeros its refinements still need to know how wide the values are.
      std::vector<float> finer = scaled(c, 1);
      const bool fits = std::all_of(finer.begin(), finer.end(),
                                    [](float value) { return std::fabs(value) < kMostInteger; });
      const int down = fits ? kThird : 0;
      choice = choose_class(counts_of(fits ? finer : values), kLeastPlace + down, kMostPlace);
      choice.sigma -= down;
    }
    scales_.shape[at] = choice.shape;
    scales_.sigma[at] = static_cast<std::int8_t>(choice.sigma);
    std::array<float, 2 * kMostTokenStep + 1> zero_below{};
    for (int step = -kMostTokenStep; step <= kMostTokenStep && plan_.refinements == 0; ++step) {
      zero_below[static_cast<std::size_t>(step + kMostTokenStep)] =
          Classes::get().zero_below(choice.shape, choice.sigma - kStepGrid * step);
    }
    for (std::size_t t = 0; t < used_.size(); ++t) {
      const auto step = static_cast<std::size_t>(steps_.tokens[t] + kMostTokenStep);
      if (used_[t] == 0 || std::fabs(values[t]) < zero_below[step]) continue;
      out[at * used_.size() + t] = static_cast<std::int16_t>(rounded(values[t]));
    }
  }

  // Integers of a quality, as if nothing had been rounded before.
  Integers wanted(int quality) {
    Integers integers;
    for (std::int64_t c = 0; c < channels_; ++c) {
      for (const float value : scaled(c, quality)) {
        integers.push_back(
            static_cast<std::int16_t>(std::clamp<long>(std::lrint(value), -32767, 32767)));
      }
    }
    return integers;
  }

  Bytes take_exact() {
    Bytes rows;
    for (std::size_t t = 0; t < used_.size(); ++t) {
      if (used_[t] != 0) continue;
      steps_.exact.push_back(static_cast<std::uint16_t>(t));
      const ByteView row = rows_.bytes.subspan(t * rows_.row_bytes(), rows_.row_bytes());
      rows.insert(rows.end(), row.begin(), row.end());
    }
    return rows;
  }

  const TensorView& rows_;
  const EcsqPlan& plan_;
  std::int64_t tokens_, channels_;
  std::vector<float> columns_;
  std::vector<std::uint8_t> used_;  // 0: exact
  EcsqScales scales_;
  TileSteps steps_;
};

}  // namespace

std::optional<std::vector<Bytes>> encode_ecsq(const TensorView& rows, const EcsqPlan& plan) {
  if (!ecsq_can_code(rows) || rows.dtype == DType::kI8) return std::nullopt;
  return Encoder(rows, plan).encode();
}

}  // namespace kv
