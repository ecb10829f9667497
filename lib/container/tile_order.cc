#include "kv/container/tile_order.hh"

#include "kv/container/meta_check.hh"

#include <algorithm>

namespace kv {
namespace {

std::string name_of(std::uint32_t layer, format::Kind kind) {
  return fmt::format("{} of layer {}", kind_text(kind), layer);
}

}  // namespace

std::string TileOrder::accept(const format::TileHeader& tile, std::uint64_t data_bytes) {
  if (tile.reserved0 != 0 || tile.reserved1 != 0) return "reserved bits of the tile are set";
  const auto dtype = static_cast<std::uint8_t>(tile.dtype);
  if (!dtype_known(dtype)) return fmt::format("dtype {} is unknown", dtype);
  if (!std::binary_search(tensors_.begin(), tensors_.end(), Tensor(tile.layer, tile.kind))) {
    return fmt::format("META declares no {}", name_of(tile.layer, tile.kind));
  }
  const std::string problem = tile.quality > 0 ? accept_refinement(tile) : accept_base(tile);
  if (!problem.empty()) return problem;
  if (tile.codec == format::kRaw) {
    const std::uint64_t wanted = tile.token_count * std::uint64_t{meta_.shape_of(tile).row_bytes()};
    if (data_bytes != wanted) {
      return fmt::format("a raw tile of {} tokens needs {} bytes, not {}", tile.token_count, wanted,
                         data_bytes);
    }
  }
  last_ = tile;
  return "";
}

std::string TileOrder::accept_base(const format::TileHeader& tile) {
  std::size_t tensor = tensor_;
  std::uint64_t covered = covered_;
  if (covered == token_count() && covered > 0) {
    ++tensor;
    covered = 0;
  }
  if (tensor == tensors_.size() || tensors_[tensor] != Tensor(tile.layer, tile.kind)) {
    return fmt::format("{} is out of order: expected {}", name_of(tile.layer, tile.kind),
                       tensor == tensors_.size()
                           ? "no further tile"
                           : name_of(tensors_[tensor].first, tensors_[tensor].second));
  }
  if (tile.token_begin != covered) {
    return fmt::format("the tile begins at token {}, not at {}", tile.token_begin, covered);
  }
  if (tile.token_count == 0 || tile.token_count > token_count() - covered) {
    return fmt::format("the tile has {} tokens, where 1 to {} are left", tile.token_count,
                       token_count() - covered);
  }
  if (tile.kind != format::Kind::kE && tile.dtype != meta_.dtype) {
    return fmt::format("the tile is {}, where META says {}", dtype_name(tile.dtype),
                       dtype_name(meta_.dtype));
  }
  if (covered > 0 && tile.dtype != last_.dtype) return "the tile's dtype is not its tensor's";
  tensor_ = tensor;
  covered_ = covered + tile.token_count;
  return "";
}

std::string TileOrder::accept_refinement(const format::TileHeader& tile) const {
  if (tile.quality >= meta_.quality_layers) {
    return fmt::format("quality layer {}, where META says {}", tile.quality, meta_.quality_layers);
  }
  if (tile.codec == format::kRaw) return "a raw tile refines another";
  format::TileHeader wanted = last_;
  wanted.quality = static_cast<std::uint16_t>(last_.quality + 1);
  wanted.codec = tile.codec;
  if (covered_ == 0 || tile != wanted) {
    return fmt::format("quality layer {} does not follow the tile that it refines", tile.quality);
  }
  return "";
}

std::string TileOrder::missing() const {
  if (token_count() == 0 || whole_tensors() == tensors_.size()) return "";
  const bool between = covered_ == token_count();
  const Tensor next = tensors_[between ? tensor_ + 1 : tensor_];
  return fmt::format("{} from token {} on is missing", name_of(next.first, next.second),
                     between ? 0 : covered_);
}

std::size_t TileOrder::whole_tensors() const {
  if (token_count() == 0) return tensors_.size();
  return tensor_ + (covered_ == token_count() ? 1 : 0);
}

}  // namespace kv
