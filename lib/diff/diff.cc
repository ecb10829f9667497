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
    const Key key{rows.tile.layer, rows.tile.kind};
    const Rows into{rows_of(tensors_, key, 1).front(), rows_of(parts_, key, parts_in(rows)),
                    rows_of(heat_, key, options_.heat_columns),
                    options_.by == DiffBy::kToken ? &of_tokens(key.second) : nullptr};
    const auto width = static_cast<std::size_t>(rows.heads * rows.dim);
    for (std::size_t t = 0; t < rows.tile.token_count; ++t) {
      add_token(into, static_cast<std::int64_t>(rows.tile.token_begin + t),
                rows.a.subspan(t * width, width), rows.b.subspan(t * width, width));
    }
  }

  DiffMember finish() {
    DiffMember member{.meta = meta_};
    for (const auto& [key, rows] : tensors_) {
      const DiffRow& row = rows.front();
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
    const auto append = [](std::vector<DiffRow>& to, const ByTensor& from) {
      for (const auto& [key, rows] : from) to.insert(to.end(), rows.begin(), rows.end());
    };
    append(member.rows, options_.by == DiffBy::kLayer ? tensors_ : parts_);
    append(member.heat, heat_);
    for (std::size_t t = 0; t < static_cast<std::size_t>(meta_.token_count); ++t) {
      for (const auto& [kind, rows] : tokens_) member.rows.push_back(rows[t]);
    }
    return member;
  }

  const std::string& offence() const { return offence_; }

 private:
  using Key = std::pair<std::uint32_t, format::Kind>;
  using ByTensor = std::map<Key, std::vector<DiffRow>>;
  // Where a tensor's tokens count; none is empty where it is not asked for.
  struct Rows {
    DiffRow& tensor;
    std::vector<DiffRow>&parts, &heat;
    std::vector<DiffRow>* tokens;
  };

  std::int64_t parts_in(const PairedRows& rows) const {
    if (options_.by == DiffBy::kHead) return rows.heads;
    return options_.by == DiffBy::kChannel ? rows.heads * rows.dim : 0;
  }

  static std::vector<DiffRow>& rows_of(ByTensor& all, const Key& key, std::int64_t count) {
    std::vector<DiffRow>& rows = all[key];
    while (std::ssize(rows) < count) rows.push_back({key.first, key.second, std::ssize(rows)});
    return rows;
  }

  std::vector<DiffRow>& of_tokens(format::Kind kind) {
    std::vector<DiffRow>& rows = tokens_[kind];
    while (std::ssize(rows) < meta_.token_count) {
      rows.push_back({std::nullopt, kind, std::ssize(rows)});
    }
    return rows;
  }

  void add_token(const Rows& into, std::int64_t token, std::span<const float> a,
                 std::span<const float> b) {
    DiffSums sums;
    sums.add(a, b);
    DiffRow& tensor = into.tensor;
    tensor.sums.add(sums);
    ++tensor.tokens;
    const double error = sums.rel_l2();
    if (!(error <= options_.bound)) ++tensor.over;
    if (options_.max_token && !(error <= *options_.max_token)) {
      offend(fmt::format("layer {} {} token {}: relative L2 {:.3g} is over {}", *tensor.layer,
                         kind_text(tensor.kind), token, error, *options_.max_token));
    }
    if (!into.heat.empty()) {
      const std::int64_t column = token * options_.heat_columns / meta_.token_count;
      into.heat[static_cast<std::size_t>(column)].sums.add(sums);
    }
    if (into.tokens) (*into.tokens)[static_cast<std::size_t>(token)].sums.add(sums);
    const std::size_t step = into.parts.empty() ? 0 : a.size() / into.parts.size();
    for (std::size_t i = 0; i < into.parts.size(); ++i) {
      into.parts[i].sums.add(a.subspan(i * step, step), b.subspan(i * step, step));
    }
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
  ByTensor tensors_, parts_, heat_;
  std::map<format::Kind, std::vector<DiffRow>> tokens_;
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
