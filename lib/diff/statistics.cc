#include "kv/container/meta_check.hh"
#include "tile_pairs.hh"

#include <algorithm>
#include <map>

namespace kv {
namespace {

constexpr std::int64_t kGroup = 10;  // tokens that share an anchor: CacheGen, section 5.2
constexpr float kMost = 15;          // its public code's levels: -15 to 15
constexpr std::size_t kLevels = 31;

double entropy(std::span<const std::uint64_t> counts) {
  double all = 0, bits = 0;
  for (const std::uint64_t count : counts) all += static_cast<double>(count);
  for (const std::uint64_t count : counts) {
    if (count == 0) continue;
    const double share = static_cast<double>(count) / all;
    bits -= share * std::log2(share);
  }
  return bits;
}

class TensorStatistics {
 public:
  explicit TensorStatistics(std::size_t channels) : channels_(channels), anchor_(channels) {}

  // Rows come in the order of the tokens.
  void add(std::span<const float> row) {
    const bool anchors = tokens_ % kGroup == 0;
    float most = 0;
    for (const float value : row) most = std::max(most, std::fabs(value));
    const float scale = most > 0 ? kMost / most : 0;
    for (std::size_t c = 0; c < row.size(); ++c) {
      Channel& channel = channels_[c];
      channel.sum += row[c];
      channel.squares += double{row[c]} * row[c];
      if (anchors) {
        anchor_[c] = row[c];
      } else {
        const double delta = double{row[c]} - anchor_[c];
        channel.deltas += delta;
        channel.delta_squares += delta * delta;
      }
      const float level = std::clamp(std::nearbyint(row[c] * scale), -kMost, kMost);
      if (level == level) ++channel.counts[static_cast<std::size_t>(level + kMost)];
    }
    ++tokens_;
    if (!anchors) ++delta_tokens_;
  }

  StatisticsRow finish(std::uint32_t layer, format::Kind kind) const {
    StatisticsRow row{layer, kind};
    std::array<std::uint64_t, kLevels> all{};
    for (const Channel& channel : channels_) {
      row.variance += variance(channel.sum, channel.squares, tokens_);
      row.delta_variance += variance(channel.deltas, channel.delta_squares, delta_tokens_);
      row.channel_bits += entropy(channel.counts);
      for (std::size_t i = 0; i < all.size(); ++i) all[i] += channel.counts[i];
    }
    const auto count = static_cast<double>(channels_.size());
    row.variance /= count;
    row.delta_variance /= count;
    row.channel_bits /= count;
    row.bits = entropy(all);
    return row;
  }

 private:
  struct Channel {
    double sum = 0, squares = 0, deltas = 0, delta_squares = 0;
    std::array<std::uint64_t, kLevels> counts{};
  };
  static double variance(double sum, double squares, std::int64_t count) {
    if (count == 0) return 0;
    const double mean = sum / static_cast<double>(count);
    return std::max(0.0, squares / static_cast<double>(count) - mean * mean);
  }

  std::vector<Channel> channels_;
  std::vector<float> anchor_;
  std::int64_t tokens_ = 0, delta_tokens_ = 0;
};

}  // namespace

Statistics statistics(const std::string& path, int threads) {
  TileRows rows(path, threads);
  Statistics members;
  while (const std::optional<Meta> meta = rows.next_member()) {
    std::vector<StatisticsRow>& all = members.emplace_back();
    std::optional<TensorStatistics> tensor;
    format::TileHeader last;
    const auto finish = [&] {
      if (tensor) all.push_back(tensor->finish(last.layer, last.kind));
    };
    while (const std::optional<format::TileHeader> tile = rows.peek(*meta, true)) {
      const auto width = static_cast<std::size_t>(rows.heads() * rows.dim());
      if (!tensor || tile->layer != last.layer || tile->kind != last.kind) {
        finish();
        tensor.emplace(width);
      }
      last = *tile;
      const std::span<const float> values = rows.take(tile->token_count);
      for (std::size_t at = 0; at < values.size(); at += width) {
        tensor->add(values.subspan(at, width));
      }
    }
    finish();
  }
  return members;
}

}  // namespace kv
