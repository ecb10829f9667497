#include "kv/codec/cachegen_profile.hh"

#include "kv/base/hash.hh"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace kv {
namespace {

constexpr std::array<std::uint8_t, 8> kMagic = {0x8B, 'K', 'V', 'P', 0x0D, 0x0A, 0x1A, 0x0A};
constexpr std::uint16_t kKind = 16;  // the codec that the profile is of
constexpr std::uint8_t kRotatedFlag = 1;

std::string problem_of(const CacheGenModel& model) {
  if (model.shift > 15) return fmt::format("a shift of {}", model.shift);
  if (model.symbols < 4 || model.symbols > 32 || !std::has_single_bit(model.symbols)) {
    return fmt::format("{} symbols", model.symbols);
  }
  const std::span used = std::span(model.frequencies).first(model.symbols);
  if (std::find(used.begin(), used.end(), 0) != used.end() ||
      std::accumulate(used.begin(), used.end(), 0u) != 1u << kRansScaleBits) {
    return "frequencies that are 0 or do not add up to 4096";
  }
  return "";
}

std::string problem_of(const CacheGenProfile::Tensor& tensor, int levels) {
  if (tensor.kind != format::Kind::kK && tensor.kind != format::Kind::kV &&
      tensor.kind != format::Kind::kL) {
    return "neither K, V nor L";
  }
  if (tensor.layer >= format::kMaxLayers || tensor.channels == 0 ||
      tensor.channels > format::kMaxRowValues) {
    return fmt::format("layer {} of {} channels", tensor.layer, tensor.channels);
  }
  for (const float step : tensor.steps) {
    if (!(step > 0 && std::isfinite(step))) return fmt::format("a step of {}", step);
  }
  if (tensor.steps.size() != static_cast<std::size_t>(levels) ||
      tensor.models.size() != (1 + tensor.steps.size()) * tensor.channels) {
    return "another number of levels";
  }
  for (const CacheGenModel& model : tensor.models) {
    if (const std::string problem = problem_of(model); !problem.empty()) return problem;
  }
  return "";
}

auto order_of(const CacheGenProfile::Tensor& tensor) {
  return std::pair(tensor.layer, tensor.kind);
}

std::size_t strips_of(const CacheGenProfile::Tensor& tensor) {
  return (tensor.channels + CacheGenProfile::kStripChannels - 1) / CacheGenProfile::kStripChannels;
}

}  // namespace

CacheGenProfile::CacheGenProfile(int levels, bool rotated, std::vector<Tensor> tensors,
                                 const std::string& place)
    : levels_(levels), rotated_(rotated), tensors_(std::move(tensors)) {
  if (levels < 1 || levels > kMostLevels) fail_input("{}: {} levels", place, levels);
  std::size_t slots = 0;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    std::string problem = problem_of(tensors_[i], levels);
    if (i > 0 && order_of(tensors_[i - 1]) >= order_of(tensors_[i])) problem = "not ascending";
    if (!problem.empty()) fail_input("{}: tensor {}: {}", place, i, problem);
    first_slots_.push_back(slots);
    slots += static_cast<std::size_t>(levels) * strips_of(tensors_[i]);
  }
  slots_ = std::make_unique<Slot[]>(slots);
  hash_ = xxh3_64(bytes());
}

Bytes CacheGenProfile::bytes() const {
  ByteWriter out;
  out.put(kMagic);
  out.put(kKind);
  out.put(static_cast<std::uint8_t>(levels_));
  out.put(rotated_ ? kRotatedFlag : std::uint8_t{0});
  out.put(static_cast<std::uint32_t>(tensors_.size()));
  for (const Tensor& tensor : tensors_) {
    out.put(tensor.layer);
    out.put(static_cast<std::uint32_t>(tensor.kind));
    out.put(tensor.channels);
    out.put_bytes(std::as_bytes(std::span(tensor.steps)));
    for (const CacheGenModel& model : tensor.models) {
      out.put(model.offset);
      out.put(model.shift);
      out.put(model.symbols);
      out.put_bytes(std::as_bytes(std::span(model.frequencies).first(model.symbols)));
    }
  }
  return out.take();
}

CacheGenProfile CacheGenProfile::parse(ByteView bytes, const std::string& place) {
  ByteReader in(bytes, place);
  if (in.get<std::array<std::uint8_t, 8>>() != kMagic) fail_input("{}: no kvtools profile", place);
  if (const auto kind = in.get<std::uint16_t>(); kind != kKind) {
    fail_input("{}: a profile of codec {}, not of cachegen", place, kind);
  }
  const int levels = in.get<std::uint8_t>();
  const auto flags = in.get<std::uint8_t>();
  if (levels < 1 || levels > kMostLevels || flags > kRotatedFlag) {
    fail_input("{}: {} levels, flags {}", place, levels, flags);
  }
  std::vector<Tensor> tensors;
  for (auto left = in.get<std::uint32_t>(); left > 0; --left) {
    Tensor& tensor = tensors.emplace_back();
    tensor.layer = in.get<std::uint32_t>();
    const auto kind = in.get<std::uint32_t>();
    tensor.kind = static_cast<format::Kind>(kind > 0xFF ? 0 : kind);
    tensor.channels = in.get<std::uint32_t>();
    for (int level = 0; level < levels; ++level) tensor.steps.push_back(in.get<float>());
    // Memory is taken as bytes are there.
    const std::uint64_t models = std::uint64_t{tensor.channels} * (1 + tensor.steps.size());
    for (std::uint64_t i = 0; i < models; ++i) {
      CacheGenModel& model = tensor.models.emplace_back();
      model.offset = in.get<std::int16_t>();
      model.shift = in.get<std::uint8_t>();
      model.symbols = in.get<std::uint8_t>();
      if (const std::size_t most = model.frequencies.size(); model.symbols > most) {
        fail_input("{}: {} symbols, of at most {}", place, model.symbols, most);
      }
      const ByteView counts = in.take(model.symbols * sizeof(std::uint16_t));
      std::memcpy(model.frequencies.data(), counts.data(), counts.size());
    }
  }
  if (in.remaining() != 0) fail_input("{}: {} bytes too many", place, in.remaining());
  return {levels, flags == kRotatedFlag, std::move(tensors), place};
}

const CacheGenProfile::Tensor* CacheGenProfile::find(std::uint32_t layer, format::Kind kind) const {
  const auto found = std::lower_bound(
      tensors_.begin(), tensors_.end(), std::pair(layer, kind),
      [](const Tensor& tensor, const auto& wanted) { return order_of(tensor) < wanted; });
  return found != tensors_.end() && order_of(*found) == std::pair(layer, kind) ? &*found : nullptr;
}

const RansTables& CacheGenProfile::tables(const Tensor& tensor, int level,
                                          std::size_t strip) const {
  const auto index = static_cast<std::size_t>(&tensor - tensors_.data());
  const std::size_t before = static_cast<std::size_t>(level - 1) * strips_of(tensor) + strip;
  Slot& slot = slots_[first_slots_[index] + before];
  std::call_once(slot.once, [&] {
    const std::size_t first = strip * kStripChannels;
    const std::size_t count = std::min<std::size_t>(kStripChannels, tensor.channels - first);
    std::vector<std::span<const std::uint16_t>> rows;
    for (const auto& models : {tensor.anchors(), tensor.deltas(level)}) {
      for (const CacheGenModel& model : models.subspan(first, count)) {
        rows.push_back(std::span(model.frequencies).first(model.symbols));
      }
    }
    slot.tables = std::make_unique<RansTables>(rows);
  });
  return *slot.tables;
}

}  // namespace kv
