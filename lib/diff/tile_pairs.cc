#include "tile_pairs.hh"

#include "kv/codec/codec.hh"
#include "kv/container/meta_check.hh"

#include <algorithm>

namespace kv {

TileRows::TileRows(const std::string& path, int threads)
    : source_(path), decoded_(source_, {}, {}, threads) {}

std::optional<format::TileHeader> TileRows::peek(const Meta& meta, bool hidden) {
  if (tile_) return tile_;
  while (const std::optional<Tile> tile = decoded_.next_tile()) {
    if (tile->header.kind == format::Kind::kE && !hidden) continue;
    if (meta.dtype == DType::kI8) {
      fail_input("{}: int8 without its scales is no number; decode it with what made it", name());
    }
    Bytes scratch;
    const TensorView rows = decoded_tile(meta, *tile, name(), scratch);
    heads_ = rows.shape[1];
    dim_ = rows.shape[2];
    values_.resize(static_cast<std::size_t>(rows.shape[0] * rows.row_values()));
    convert(rows.bytes, rows.dtype, std::as_writable_bytes(std::span(values_)), DType::kF32);
    taken_ = 0;
    tile_ = tile->header;
    return tile_;
  }
  return std::nullopt;
}

std::span<const float> TileRows::take(std::int64_t tokens) {
  const auto count = static_cast<std::size_t>(tokens * heads_ * dim_);
  const std::span<const float> rows = std::span(values_).subspan(taken_, count);
  taken_ += count;
  tile_->token_begin += static_cast<std::uint64_t>(tokens);
  tile_->token_count -= static_cast<std::uint32_t>(tokens);
  if (tile_->token_count == 0) tile_.reset();
  return rows;
}

TilePairs::TilePairs(const std::string& a, const std::string& b, const DiffOptions& options)
    : options_(options), a_(a, options.threads), b_(b, options.threads) {
  if (a_.name() == "-" && b_.name() == "-") {
    fail_usage("-: both caches from standard input; give one of them as a file or <(command)");
  }
}

std::optional<Meta> TilePairs::next_member() {
  const std::optional<Meta> a = a_.next_member(), b = b_.next_member();
  if (!a && !b) return std::nullopt;
  if (!a || !b) {
    fail_input("{}: has fewer members than {}; take as many with kvcat --members",
               a ? b_.name() : a_.name(), a ? a_.name() : b_.name());
  }
  require_comparable(*a, *b);
  meta_a_ = *a;
  meta_b_ = *b;
  hidden_ = a->hidden_layers == b->hidden_layers && a->hidden == b->hidden;
  return a;
}

void TilePairs::require_comparable(const Meta& a, const Meta& b) {
  if (!options_.across_models) require_same_model(b, b_.name(), a.model);
  const auto same_shape = [](const LayerMeta& x, const LayerMeta& y) {
    const LayerGeometry &g = x.geometry, &h = y.geometry;
    return x.index == y.index && x.latent_dim == y.latent_dim && g.kv_heads == h.kv_heads &&
           g.k_dim == h.k_dim && g.v_dim == h.v_dim;
  };
  if (!std::ranges::equal(a.layers, b.layers, same_shape)) {
    fail_input("{}: has other layers or heads than {}; cut both alike with kvcat --layers",
               b_.name(), a_.name());
  }
  if (a.token_count != b.token_count) {
    fail_input("{}: holds {} tokens, {} holds {}; cut both alike with kvcat --tokens", b_.name(),
               b.token_count, a_.name(), a.token_count);
  }
  if (a.rope_applied != b.rope_applied) {
    fail_input("{}: keys are {} RoPE, those of {} are not; import it with kvconvert --from",
               a.rope_applied ? a_.name() : b_.name(), "behind",
               a.rope_applied ? b_.name() : a_.name());
  }
  if (options_.across_texts) return;
  const std::vector<std::int32_t> x = a_.tokens(), y = b_.tokens();
  if (x.empty() || y.empty()) return;  // ids not kept
  const auto [at, other] = std::ranges::mismatch(x, y);
  if (at != x.end()) {
    fail_input("{}: token {} is {}, in {} it is {}; --across-texts compares other texts too",
               b_.name(), at - x.begin(), *other, a_.name(), *at);
  }
}

std::optional<PairedRows> TilePairs::next() {
  const auto a = a_.peek(meta_a_, hidden_), b = b_.peek(meta_b_, hidden_);
  if (!a || !b) return std::nullopt;  // both: the readers see to whole members
  PairedRows rows{*a, a_.heads(), a_.dim(), {}, {}};
  rows.tile.token_count = std::min(a->token_count, b->token_count);
  rows.a = a_.take(rows.tile.token_count);
  rows.b = b_.take(rows.tile.token_count);
  return rows;
}

}  // namespace kv
