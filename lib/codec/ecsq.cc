#include "ecsq.hh"

#include "clp_tensor.hh"
#include "planes.hh"

#include <array>
#include <cmath>
#include <stdexcept>

namespace kv {
namespace {

// Steps of keys and values by level, in deviations of their tensor.
struct LevelSteps {
  double key, value;
};
constexpr std::array<LevelSteps, 4> kLevels = {{{0.35, 0.35}, {0.5, 0.5}, {0.7, 0.7}, {1.0, 1.0}}};

// Channels that rotations may join, whole heads if they can: the time for it grows with the square.
constexpr std::int64_t kMostBlock = 256;
std::int64_t block_of(const TensorView& rows) {
  const std::int64_t head = rows.shape[2];
  return head < kMostBlock ? kMostBlock / head * head : kMostBlock;
}

}  // namespace

EcsqCodec::EcsqCodec(const Meta& meta, const EcsqOptions& options, const Importance& importance)
    : name_(fmt::format("ecsq level={} step={}{}", options.level, options.base_step,
                        options.refinements > 0 ? " progressive" : "")),
      refinements_(options.refinements) {
  const LevelSteps& level = kLevels.at(static_cast<std::size_t>(options.level - 1));
  double factor = 1;
  for (int i = 0; i < options.base_step; ++i) factor *= 1.0905077326652577;
  for (int i = 0; i > options.base_step; --i) factor /= 1.0905077326652577;
  // Two refinements make it the level's.
  if (refinements_ > 0) factor *= 9;
  key_step_ = level.key * factor;
  value_step_ = level.value * factor;
  if (importance.empty() || !options.use_importance) return;
  const auto count = static_cast<std::size_t>(meta.token_count);
  std::size_t at = 0;
  for (const auto& row : importance_rows(meta)) {
    steps_[row] = steps_from_importance(std::span(importance).subspan(at, count));
    at += count;
  }
}

Bytes EcsqCodec::encode(const format::TileHeader&, const TensorView&) const {
  throw std::logic_error("EcsqCodec: encode_in() has META");
}

void EcsqCodec::decode(const format::TileHeader&, ByteView, const std::string&,
                       std::span<std::byte>) const {
  throw std::logic_error("EcsqCodec: decode_in() has META");
}

Coded EcsqCodec::encode_in(const Meta& meta, const format::TileHeader& tile,
                           const TensorView& raw) const {
  return encode_qualities(meta, tile, raw).front();
}

std::vector<Coded> EcsqCodec::encode_qualities(const Meta&, const format::TileHeader& tile,
                                               const TensorView& raw) const {
  if (tile.kind != format::Kind::kE && raw.dtype != DType::kI8) {
    EcsqPlan plan{.step = tile.kind == format::Kind::kK ? key_step_ : value_step_,
                  .refinements = refinements_,
                  .block = block_of(raw)};
    const auto found = steps_.find({tile.layer, tile.kind});
    if (found != steps_.end()) {
      const auto first = found->second.begin() + static_cast<std::ptrdiff_t>(tile.token_begin);
      plan.tokens.assign(first, first + tile.token_count);
      plan.exact = exact_tokens(plan.tokens);
      plan.find_exact = false;  // importance knows better
    } else if (tile.token_begin == 0) {
      plan.exact.push_back(0);
    }
    if (auto qualities = encode_ecsq(raw, plan)) {
      std::vector<Coded> coded;
      for (Bytes& data : *qualities) {
        coded.push_back({coded.empty() ? format::kEcsq : format::kThirds, std::move(data)});
      }
      return coded;
    }
  }
  static const PlanesCodec planes;
  return {{planes.id(), planes.encode(tile, raw)}};
}

void EcsqCodec::decode_in(const Meta& meta, const format::TileHeader& tile, ByteView coded,
                          const std::string& place, std::span<std::byte> raw) const {
  decode_qualities(meta, tile, {&coded, 1}, place, raw);
}

void EcsqCodec::decode_qualities(const Meta& meta, const format::TileHeader& tile,
                                 std::span<const ByteView> qualities, const std::string& place,
                                 std::span<std::byte> raw) {
  if (tile.kind == format::Kind::kE)
    fail_input("{}: codec {} is for K, V and L", place, tile.codec);
  if (tile.quality != 0) {
    fail_input("{}: codec {} has no quality {}", place, tile.codec, tile.quality);
  }
  const TensorView shape = meta.shape_of(tile);
  if (raw.size() != static_cast<std::size_t>(shape.shape[0]) * shape.row_bytes()) {
    fail_input("{}: {} bytes do not hold the tile", place, raw.size());
  }
  decode_ecsq(qualities, shape, place, raw);
}

}  // namespace kv
