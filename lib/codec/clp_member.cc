#include "clp_member.hh"

#include "kv/codec/profiles.hh"

#include <algorithm>

namespace kv {
namespace {

// The entropy coder takes so many streams in lockstep.
constexpr std::size_t kTogether = 4;

// f(part) of `count` things in parts of at most kTogether, as even as the threads want them.
template <typename F>
void in_parts(Workers& workers, std::size_t count, F&& use) {
  const auto threads = static_cast<std::size_t>(workers.threads());
  const std::size_t size = std::clamp<std::size_t>((count + threads - 1) / threads, 1, kTogether);
  workers.each((count + size - 1) / size,
               [&](std::size_t i) { use(i * size, std::min(size, count - i * size)); });
}

}  // namespace

struct ClpMember::Work {
  OwnedTile* tile;
  ClpColumn* column;
  std::string place;
  TensorView shape;
  const TensorCoder* coder = nullptr;
  std::vector<const TileContext*> context;
  TileContext* decoded = nullptr;
  TileCode code;
  Bytes raw;
};

ClpMember::ClpMember(const Meta& meta, std::string place, int threads)
    : meta_(meta), place_(std::move(place)), workers_(threads) {}

std::string ClpMember::place_of(const OwnedTile& tile) const {
  return fmt::format("{}: byte {}: layer {} {}", place_, tile.frame_offset, tile.header.layer,
                     static_cast<char>(tile.header.kind));
}

const ClpCoders& ClpMember::coders_for(std::uint64_t hash, const std::string& place) {
  std::shared_ptr<const ClpCoders>& coders = coders_[hash];
  if (!coders) coders = ClpCoders::of(require_profile(hash, place));
  return *coders;
}

std::size_t ClpMember::most_tiles_together() const {
  return kTogether * static_cast<std::size_t>(workers_.threads());
}

void ClpMember::recycle(Bytes data) {
  if (spare_data_.size() < 2 * most_tiles_together()) spare_data_.push_back(std::move(data));
}

// Memory that was used before neither has to be cleared nor fetched from the system.
Bytes ClpMember::room(std::size_t size) {
  Bytes data;
  if (!spare_data_.empty()) {
    data = std::move(spare_data_.back());
    spare_data_.pop_back();
  }
  data.resize(size);
  return data;
}

// By layer, V before K.
std::vector<std::vector<ClpMember::Work>> ClpMember::columns_of(std::vector<OwnedTile>& tiles) {
  std::map<std::uint64_t, std::vector<OwnedTile*>> by_token;
  for (OwnedTile& tile : tiles) by_token[tile.header.token_begin].push_back(&tile);
  std::vector<std::vector<Work>> columns;
  for (auto& [token, own] : by_token) {
    std::stable_sort(own.begin(), own.end(), [](const OwnedTile* a, const OwnedTile* b) {
      return a->header.layer != b->header.layer ? a->header.layer < b->header.layer
                                                : a->header.kind > b->header.kind;
    });
    std::vector<Work>& works = columns.emplace_back();
    for (OwnedTile* tile : own) {
      Work& work = works.emplace_back();
      work.tile = tile;
      work.column = &columns_[token];
      work.place = place_of(*tile);
      work.shape = meta_.shape_of(tile->header);
      if (spare_quads_.empty()) continue;
      work.code.coefficients = std::move(spare_quads_.back());
      spare_quads_.pop_back();
    }
  }
  return columns;
}

void ClpMember::make_coders(std::vector<std::vector<Work>>& columns, const ClpCoders* encoders) {
  std::vector<Work*> works;
  std::vector<const ClpCoders*> coders;
  for (std::vector<Work>& column : columns) {
    for (Work& work : column) {
      coders.push_back(encoders ? encoders
                                : &coders_for(profile_of(work.tile->data, work.place), work.place));
      works.push_back(&work);
    }
  }
  workers_.each(works.size(), [&](std::size_t i) {
    Work& work = *works[i];
    work.coder = &coders[i]->coder(work.tile->header, work.shape.row_values(), work.place);
    if (encoders) work.coder->prepare_encoding();
  });
}

// All that comes before the symbols.
void ClpMember::begin(Work& work) {
  const format::TileHeader& header = work.tile->header;
  const TensorView& shape = work.shape;
  if (header.token_count > kMostTileTokens || header.quality != 0 ||
      shape.shape[0] * shape.row_values() > kMostTileValues) {
    fail_input("{}: a tile of {} tokens, {} values and quality {}", work.place, shape.shape[0],
               shape.shape[0] * shape.row_values(), header.quality);
  }
  work.context = work.column->context_of(work.coder->profile(), work.place);
  work.decoded = &work.column->add(header.layer, header.kind);
  work.coder->begin(work.context, work.tile->data, work.place, shape.shape[0], header.dtype,
                    work.code, *work.decoded);
}

std::vector<OwnedTile> ClpMember::decode(std::vector<OwnedTile> coded) {
  std::vector<std::vector<Work>> columns = columns_of(coded);
  std::vector<Work*> works;  // those that have something to decode, by column
  for (std::vector<Work>& column : columns) {
    std::erase_if(column, [](const Work& work) { return work.tile->header.codec != format::kClp; });
  }
  make_coders(columns, nullptr);
  for (std::vector<Work>& column : columns) {
    for (Work& work : column) {
      begin(work);
      work.raw = room(static_cast<std::size_t>(work.shape.shape[0]) * work.shape.row_bytes());
      works.push_back(&work);
    }
  }
  in_parts(workers_, works.size(), [&](std::size_t first, std::size_t count) {
    std::vector<CoefficientJob> jobs;
    for (Work* work : std::span(works).subspan(first, count)) {
      jobs.push_back({&work->coder->profile(), &work->code, &work->place});
    }
    decode_coefficients(jobs);
  });
  // Tokens do not depend on each other: a column in as many parts as give each thread one.
  const auto threads = static_cast<std::size_t>(workers_.threads());
  const std::size_t parts =
      (threads + columns.size() - 1) / std::max<std::size_t>(1, columns.size());
  workers_.each(columns.size() * parts, [&](std::size_t i) {
    for (Work& work : columns[i / parts]) {
      const std::int64_t tokens = work.shape.shape[0];
      const std::int64_t size = stride_of((tokens + static_cast<std::int64_t>(parts) - 1) /
                                          static_cast<std::int64_t>(parts));
      const std::int64_t first = static_cast<std::int64_t>(i % parts) * size;
      if (first >= tokens) return;
      work.coder->reconstruct(work.context, work.code, {first, std::min(tokens, first + size)},
                              work.tile->header.dtype, work.raw, *work.decoded);
    }
  });
  for (Work* work : works) {
    work->tile->data = std::move(work->raw);
    work->tile->header.codec = format::kRaw;
    spare_quads_.push_back(std::move(work->code.coefficients));
    work->column->forget(work->tile->header.layer);
  }
  return coded;
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

TileSteps ClpMember::steps_of(const format::TileHeader& tile, const TensorProfile& profile,
                              int base) const {
  TileSteps steps{.base = base};
  const auto found = steps_.find({tile.layer, tile.kind});
  if (found == steps_.end()) {
    steps.base = std::clamp(base + profile.even_step, -kMostBaseStep, kMostBaseStep);
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
  std::shared_ptr<const ClpCoders>& coders = coders_[options.profile->hash];
  if (!coders) coders = ClpCoders::of(options.profile);
  std::vector<std::vector<Work>> columns = columns_of(raw);
  std::vector<Work*> works;
  for (std::vector<Work>& column : columns) {
    std::erase_if(column,
                  [](const Work& work) { return work.tile->header.kind == format::Kind::kE; });
    for (Work& work : column) works.push_back(&work);
  }
  make_coders(columns, coders.get());
  workers_.each(columns.size(), [&](std::size_t i) {
    for (Work& work : columns[i]) {
      const format::TileHeader& header = work.tile->header;
      work.shape.bytes = work.tile->data;
      work.context = work.column->context_of(work.coder->profile(), work.place);
      work.decoded = &work.column->add(header.layer, header.kind);
      work.coder->quantise(work.context, work.shape,
                           steps_of(header, work.coder->profile(), options.base_step), work.code,
                           *work.decoded);
    }
  });
  in_parts(workers_, works.size(), [&](std::size_t first, std::size_t count) {
    std::vector<EncodeSymbols> jobs;
    for (Work* work : std::span(works).subspan(first, count)) {
      jobs.push_back({work->code.plan.get(), &work->code.coefficients, &work->code.symbols});
    }
    encode_symbols(jobs);
  });
  for (Work* work : works) {
    work->tile->data =
        write_tile_code(options.profile->hash, work->code,
                        work->context.empty() ? nullptr : &work->context.back()->steps);
    work->tile->header.codec = format::kClp;
    spare_quads_.push_back(std::move(work->code.coefficients));
  }
  for (Work* work : works) work->column->forget(work->tile->header.layer);
  return raw;
}

}  // namespace kv
