#include "kv/diff/diff.hh"

#include "kv/container/meta_check.hh"
#include "tile_pairs.hh"

#include <algorithm>
#include <array>
#include <bit>
#include <map>

namespace kv {
namespace {

constexpr std::array kNames = {"layer", "head", "channel", "token"};

// A member's rows while its tiles come.
class Counting {
 public:
  Counting(const Meta& meta, const DiffOptions& options, const std::string& place)
      : meta_(meta), options_(options), place_(place) {}

  void add(const PairedRows& rows) {
    const std::int64_t width = rows.heads * rows.dim;
    for (std::int64_t t = 0; t < rows.tile.token_count; ++t) {
      const auto at = static_cast<std::size_t>(t * width);
      const auto a = rows.a.subspan(at, static_cast<std::size_t>(width));
      const auto b = rows.b.subspan(at, static_cast<std::size_t>(width));
      add_token(rows, static_cast<std::int64_t>(rows.tile.token_begin) + t, a, b);
    }
  }

  DiffMember finish() {
    DiffMember member{.meta = meta_};
    for (auto& [key, row] : tensors_) {
      const double error = row.sums.rel_l2();
      if (options_.max_rel_l2 && !(error <= *options_.max_rel_l2)) {
        offend(fmt::format("layer {} {}: relative L2 {:.3g} is over {}", key.first,
                           kind_text(key.second), error, *options_.max_rel_l2));
      }
      DiffRow& total = total_of(member, key.second);
      total.sums.add(row.sums);
      total.tokens += row.tokens;
      total.over += row.over;
    }
    if (options_.by == DiffBy::kLayer) {
      for (auto& [key, row] : tensors_) member.rows.push_back(row);
    } else {
      for (auto& [key, row] : parts_) member.rows.push_back(row);
    }
    for (auto& [key, row] : heat_) member.heat.push_back(row);
    return member;
  }

  const std::string& offence() const { return offence_; }

 private:
  using Key = std::pair<std::uint32_t, format::Kind>;

  void add_token(const PairedRows& rows, std::int64_t token, std::span<const float> a,
                 std::span<const float> b) {
    const Key key{rows.tile.layer, rows.tile.kind};
    DiffSums sums;
    sums.add(a, b);
    DiffRow& tensor = tensors_.try_emplace(key, DiffRow{key.first, key.second}).first->second;
    tensor.sums.add(sums);
    ++tensor.tokens;
    const double error = sums.rel_l2();
    if (!(error <= options_.bound)) ++tensor.over;
    if (options_.max_token && !(error <= *options_.max_token)) {
      offend(fmt::format("layer {} {} token {}: relative L2 {:.3g} is over {}", key.first,
                         kind_text(key.second), token, error, *options_.max_token));
    }
    if (options_.heat_columns > 0) {
      const std::int64_t column =
          token * options_.heat_columns / std::max<std::int64_t>(1, meta_.token_count);
      part_of(heat_, key.first, key.second, column).sums.add(sums);
    }
    switch (options_.by) {
      case DiffBy::kLayer:
        return;
      case DiffBy::kToken:
        part_of(parts_, std::nullopt, key.second, token).sums.add(sums);
        return;
      case DiffBy::kHead:
      case DiffBy::kChannel: {
        const std::int64_t step = options_.by == DiffBy::kHead ? rows.dim : 1;
        for (std::int64_t i = 0; i * step < std::ssize(a); ++i) {
          const auto first = static_cast<std::size_t>(i * step);
          part_of(parts_, key.first, key.second, i)
              .sums.add(a.subspan(first, static_cast<std::size_t>(step)),
                        b.subspan(first, static_cast<std::size_t>(step)));
        }
      }
    }
  }

  using Parts = std::map<std::tuple<std::int64_t, format::Kind, std::int64_t>, DiffRow>;
  static DiffRow& part_of(Parts& parts, std::optional<std::uint32_t> layer, format::Kind kind,
                          std::int64_t index) {
    const std::int64_t first = layer ? std::int64_t{*layer} : index;
    return parts.try_emplace({first, kind, index}, DiffRow{layer, kind, index}).first->second;
  }

  static DiffRow& total_of(DiffMember& member, format::Kind kind) {
    for (DiffRow& total : member.totals) {
      if (total.kind == kind) return total;
    }
    return member.totals.emplace_back(DiffRow{std::nullopt, kind});
  }

  void offend(const std::string& what) {
    if (offence_.empty()) offence_ = place_ + what;
  }

  const Meta& meta_;
  const DiffOptions& options_;
  std::string place_, offence_;
  std::map<Key, DiffRow> tensors_;
  Parts parts_, heat_;
};

}  // namespace

DiffBy parse_diff_by(const std::string& name) {
  const auto at = std::ranges::find(kNames, name);
  if (at == kNames.end()) fail_usage("--by '{}': give one of {}", name, fmt::join(kNames, ", "));
  return static_cast<DiffBy>(at - kNames.begin());
}

std::string_view diff_by_name(DiffBy by) { return kNames[static_cast<std::size_t>(by)]; }

void DiffSums::add(std::span<const float> a, std::span<const float> b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double x = a[i], y = b[i];
    a2 += x * x;
    b2 += y * y;
    ab += x * y;
    // Also what is no number, or none that can be subtracted.
    if (std::bit_cast<std::uint32_t>(a[i]) == std::bit_cast<std::uint32_t>(b[i])) continue;
    d2 += (x - y) * (x - y);
    const float distance = std::fabs(a[i] - b[i]);
    if (!(distance <= most)) most = distance;  // and stays NaN
  }
}

void DiffSums::add(const DiffSums& other) {
  a2 += other.a2;
  b2 += other.b2;
  ab += other.ab;
  d2 += other.d2;
  if (!(other.most <= most)) most = other.most;
}

DiffResult diff(const std::string& a, const std::string& b, const DiffOptions& options) {
  TilePairs pairs(a, b, options);
  DiffResult result;
  while (const std::optional<Meta> meta = pairs.next_member()) {
    const std::size_t number = result.members.size();
    Counting counting(*meta, options, number > 0 ? fmt::format("member {}: ", number) : "");
    while (const std::optional<PairedRows> rows = pairs.next()) counting.add(*rows);
    result.members.push_back(counting.finish());
    if (result.offence.empty()) result.offence = counting.offence();
  }
  return result;
}

}  // namespace kv
