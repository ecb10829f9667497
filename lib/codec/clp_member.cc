#include "clp_member.hh"

#include "kv/codec/profiles.hh"
#include "ordered_pool.hh"

#include <algorithm>

namespace kv {

ClpCoders::ClpCoders(std::shared_ptr<const Profile> profile) : profile_(std::move(profile)) {}

const TensorCoder& ClpCoders::coder(const format::TileHeader& tile, std::int64_t channels,
                                    const std::string& place) const {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<TensorCoder>& coder = coders_[{tile.layer, tile.kind}];
  if (!coder) {
    const TensorProfile* profile = profile_->find(tile.layer, tile.kind);
    if (!profile || profile->channels != channels) {
      fail_input("{}: profile {:016x} is of another geometry", place, profile_->hash);
    }
    coder = std::make_unique<TensorCoder>(*profile);
  }
  return *coder;
}

std::vector<const TileContext*> ClpColumn::context_of(const TensorProfile& profile,
                                                      const std::string& place) const {
  std::vector<const TileContext*> context;
  for (const ContextSource& source : profile.context) {
    const auto found = contexts_.find({profile.layer - source.layers_back, source.kind});
    if (found == contexts_.end()) {
      fail_input(
          "{}: needs layer {} {} of the same tokens, which is not there; decode the file that it "
          "was cut from (kvdecode --layers)",
          place, profile.layer - source.layers_back, static_cast<char>(source.kind));
    }
    context.push_back(&found->second);
  }
  return context;
}

TileContext& ClpColumn::add(std::uint32_t layer, format::Kind kind) {
  return contexts_[{layer, kind}];
}

void ClpColumn::forget(std::uint32_t layer) {
  constexpr std::uint32_t kMostBack = 2;
  std::erase_if(contexts_,
                [&](const auto& entry) { return entry.first.first + kMostBack < layer + 1; });
}

ClpMember::ClpMember(const Meta& meta, std::string place, int threads)
    : meta_(meta), place_(std::move(place)), threads_(threads) {}

std::string ClpMember::place_of(const OwnedTile& tile) const {
  return fmt::format("{}: byte {}: layer {} {}", place_, tile.frame_offset, tile.header.layer,
                     static_cast<char>(tile.header.kind));
}

const ClpCoders& ClpMember::coders_for(std::uint64_t hash, const std::string& place) {
  std::unique_ptr<ClpCoders>& coders = coders_[hash];
  if (!coders) coders = std::make_unique<ClpCoders>(require_profile(hash, place));
  return *coders;
}

// V before K, tokens ascending; the columns side by side.
template <typename F>
void ClpMember::each_column(std::vector<OwnedTile>& tiles, F&& use) {
  std::map<std::uint64_t, std::vector<OwnedTile*>> by_token;
  for (OwnedTile& tile : tiles) by_token[tile.header.token_begin].push_back(&tile);
  OrderedPool<int> pool(threads_, [](int) {});
  for (auto& [token, own] : by_token) {
    ClpColumn& column = columns_[token];
    std::stable_sort(own.begin(), own.end(), [](const OwnedTile* a, const OwnedTile* b) {
      return a->header.kind > b->header.kind;
    });
    pool.add([&use, &column, own = own] {
      for (OwnedTile* tile : own) use(*tile, column);
      column.forget(own.front()->header.layer);
      return 0;
    });
  }
  pool.finish();
}

std::vector<OwnedTile> ClpMember::decode(std::vector<OwnedTile> coded) {
  for (const OwnedTile& tile : coded) {
    if (tile.header.codec == format::kClp)
      coders_for(profile_of(tile.data, place_of(tile)), place_of(tile));
  }
  each_column(coded, [&](OwnedTile& tile, ClpColumn& column) {
    if (tile.header.codec == format::kClp) tile = decoded(tile, column);
  });
  return coded;
}

OwnedTile ClpMember::decoded(const OwnedTile& tile, ClpColumn& column) {
  const std::string place = place_of(tile);
  const TensorView shape = meta_.shape_of(tile.header);
  if (tile.header.token_count > kMostTileTokens || tile.header.quality != 0 ||
      shape.shape[0] * shape.row_values() > kMostTileValues) {
    fail_input("{}: a tile of {} tokens, {} values and quality {}", place, shape.shape[0],
               shape.shape[0] * shape.row_values(), tile.header.quality);
  }
  const TensorCoder& coder =
      coders_.at(profile_of(tile.data, place))->coder(tile.header, shape.row_values(), place);
  OwnedTile raw{tile.header, {}, tile.frame_offset};
  raw.header.codec = format::kRaw;
  raw.data.resize(static_cast<std::size_t>(shape.shape[0]) * shape.row_bytes());
  coder.decode(column.context_of(coder.profile(), place), tile.data, place, tile.header.dtype,
               raw.data, column.add(tile.header.layer, tile.header.kind));
  return raw;
}

void ClpMember::set_importance(const Importance& importance) {
  if (importance.empty()) return;
  const auto count = static_cast<std::size_t>(meta_.token_count);
  std::size_t at = 0;
  for (const auto& row : importance_rows(meta_)) {
    steps_[row] = steps_from_importance(std::span(importance).subspan(at, count));
    at += count;
  }
}

TileSteps ClpMember::steps_of(const format::TileHeader& tile, int base) const {
  TileSteps steps{.base = base};
  const auto found = steps_.find({tile.layer, tile.kind});
  if (found == steps_.end()) {
    steps.tokens.resize(tile.token_count);
    if (tile.token_begin == 0) steps.exact.push_back(0);
    return steps;
  }
  const auto first = found->second.begin() + static_cast<std::ptrdiff_t>(tile.token_begin);
  steps.tokens.assign(first, first + tile.token_count);
  steps.exact = exact_tokens(steps.tokens);
  return steps;
}

std::vector<OwnedTile> ClpMember::encode(std::vector<OwnedTile> raw, const ClpOptions& options) {
  std::unique_ptr<ClpCoders>& coders = coders_[options.profile->hash];
  if (!coders) coders = std::make_unique<ClpCoders>(options.profile);
  each_column(raw, [&](OwnedTile& tile, ClpColumn& column) {
    if (tile.header.kind == format::Kind::kE) return;
    TensorView rows = meta_.shape_of(tile.header);
    rows.bytes = tile.data;
    const std::string place = place_of(tile);
    const TensorCoder& coder = coders->coder(tile.header, rows.row_values(), place);
    TileSteps steps = steps_of(tile.header, options.base_step);
    tile.data = coder.encode(column.context_of(coder.profile(), place), rows, options.profile->hash,
                             std::move(steps), column.add(tile.header.layer, tile.header.kind));
    tile.header.codec = format::kClp;
  });
  return raw;
}

}  // namespace kv
