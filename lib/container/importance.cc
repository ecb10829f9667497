#include "kv/container/importance.hh"

#include "kv/base/error.hh"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace kv {
namespace {

constexpr double kStepsPerOctave = 8;
constexpr double kOne = 128;  // the byte of weight 1

}  // namespace

std::vector<std::pair<std::uint32_t, format::Kind>> importance_rows(const Meta& meta) {
  std::vector<std::pair<std::uint32_t, format::Kind>> rows = meta.tensors();
  std::erase_if(rows, [](const auto& row) { return row.second == format::Kind::kE; });
  return rows;
}

std::uint64_t importance_size_bytes(const Meta& meta) {
  return importance_rows(meta).size() * static_cast<std::uint64_t>(meta.token_count);
}

std::string problem_of(std::span<const std::uint8_t> importance) {
  const auto zero = std::ranges::find(importance, std::uint8_t{0});
  if (zero == importance.end()) return "";
  return fmt::format("byte {} of the payload is 0", zero - importance.begin());
}

std::uint8_t importance_byte(double weight) {
  if (!(weight > 0)) return 1;
  const double byte = kOne + std::round(kStepsPerOctave * std::log2(weight));
  return static_cast<std::uint8_t>(std::clamp(byte, 1.0, 255.0));
}

double importance_weight(std::uint8_t byte) { return std::exp2((byte - kOne) / kStepsPerOctave); }

void put_importance(std::span<const float> weights, std::span<std::uint8_t> row) {
  const double mean = std::accumulate(weights.begin(), weights.end(), 0.0) /
                      static_cast<double>(std::max<std::size_t>(1, weights.size()));
  const bool usable = std::isfinite(mean) && mean > 0;
  std::ranges::transform(weights, row.begin(), [&](float weight) {
    return importance_byte(usable ? static_cast<double>(weight) / mean : 1.0);
  });
}

Importance slice_importance(const Importance& importance, const Meta& meta, const Range& layers,
                            const Range& tokens) {
  if (importance.empty()) return {};
  const auto count = static_cast<std::ptrdiff_t>(meta.token_count);
  const auto first = static_cast<std::ptrdiff_t>(tokens.first);
  const auto last = tokens.last < 0 ? count : static_cast<std::ptrdiff_t>(tokens.last);
  Importance part;
  auto row = importance.begin();
  for (const auto& [layer, kind] : importance_rows(meta)) {
    if (layers.contains(layer)) part.insert(part.end(), row + first, row + last);
    row += count;
  }
  return part;
}

}  // namespace kv
