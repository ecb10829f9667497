#include "rq_report.hh"

#include "kv/base/error.hh"
#include "rq_curve.hh"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace kv {
namespace {

struct Sums {
  double bits = 0, values = 0, kld = 0, tokens = 0, same_top = 0, nll = 0, targets = 0;

  double mean_kld() const { return kld / tokens; }
  double mean_bits() const { return bits / values; }
};

// Of the windows picked, with repetition.
Sums sums_of(const Point& point, std::span<const std::size_t> picks) {
  Sums sums;
  for (const std::size_t pick : picks) {
    const WindowResult& r = *point.windows[pick];
    sums.bits += 8.0 * static_cast<double>(r.bytes);
    sums.values += static_cast<double>(r.values);
    for (const double value : r.kld) sums.kld += value;
    sums.tokens += static_cast<double>(r.kld.size());
    sums.same_top += static_cast<double>(r.same_top);
    sums.nll += r.nll_sum - r.reference_nll_sum;
    sums.targets += static_cast<double>(std::max<std::int64_t>(r.targets, 1));
  }
  return sums;
}

double median_of(const std::vector<const WindowResult*>& windows, double WindowResult::*member) {
  std::vector<double> values;
  for (const WindowResult* result : windows) values.push_back(result->*member);
  return quantile(std::move(values), 0.5);
}

void fill(Point& point, const Table& table) {
  const std::size_t count = table.windows.size();
  const auto interval = [&](auto&& statistic) {
    return *bootstrap(table.picks, count, [&](std::span<const std::size_t> picks) {
      return std::optional<double>(statistic(sums_of(point, picks)));
    });
  };
  point.kld = interval([](const Sums& s) { return s.mean_kld(); });
  point.same_top = interval([](const Sums& s) { return s.same_top / s.tokens; });
  point.nll = interval([](const Sums& s) { return s.nll / s.targets; });
  std::vector<double> tokens;
  double bytes = 0, raw = 0, values = 0;
  for (const WindowResult* r : point.windows) {
    tokens.insert(tokens.end(), r->kld.begin(), r->kld.end());
    bytes += static_cast<double>(r->bytes);
    raw += static_cast<double>(r->raw_bytes);
    values += static_cast<double>(r->values);
  }
  point.bits = 8 * bytes / values;
  point.to_file = raw / bytes;
  point.kld_p50 = quantile(tokens, 0.5);
  point.kld_p99 = quantile(std::move(tokens), 0.99);
  point.encode_s = median_of(point.windows, &WindowResult::encode_s);
  point.encode_cpu_s = median_of(point.windows, &WindowResult::encode_cpu_s);
}

const Point& point_named(const Table& table, const std::string& recipe) {
  for (const Point& point : table.points) {
    if (point.recipe == recipe) return point;
  }
  fail_usage("--versus {}: the results have no such recipe", recipe);
}

std::vector<RatePoint> curve_of(const std::vector<const Point*>& points,
                                std::span<const std::size_t> picks) {
  std::vector<RatePoint> curve;
  for (const Point* point : points) {
    const Sums sums = sums_of(*point, picks);
    curve.push_back({sums.mean_bits(), sums.mean_kld()});
  }
  return curve;
}

}  // namespace

Table make_table(const std::vector<WindowResult>& results, const TableOptions& options) {
  Table table;
  table.probe = options.probe;
  std::map<std::string, std::map<std::string, const WindowResult*>> by_recipe;
  std::map<std::string, std::string> setups;
  std::vector<std::string> windows;
  for (const WindowResult& result : results) {
    if (result.probe != options.probe) continue;
    if (!options.domain.empty() && result.domain != options.domain) continue;
    const std::string family = result.recipe.substr(0, result.recipe.find('/'));
    if (!options.only.empty() && std::ranges::find(options.only, family) == options.only.end()) {
      continue;
    }
    const auto [setup, fresh] = setups.try_emplace(result.window, result.setup);
    if (fresh) windows.push_back(result.window);
    if (setup->second != result.setup) {
      fail_input("{}: measured in two set-ups (model, tokens or options); report them apart",
                 result.window);
    }
    if (by_recipe.try_emplace(result.recipe).second) {
      Point& point = table.points.emplace_back();
      point.recipe = result.recipe;
      point.family = family;
      if (family.size() < result.recipe.size()) {
        point.label = result.recipe.substr(family.size() + 1);
      }
    }
    by_recipe[result.recipe][result.window] = &result;
  }
  for (const std::string& window : windows) {
    const bool everywhere = std::ranges::all_of(
        by_recipe, [&](const auto& recipe) { return recipe.second.contains(window); });
    everywhere ? table.windows.push_back(window) : static_cast<void>(++table.left_out);
  }
  if (table.windows.empty()) {
    fail_input("results: no window of probe '{}' that every recipe was measured on", options.probe);
  }
  table.picks = bootstrap_picks(table.windows.size(), options.rounds, options.seed);
  for (Point& point : table.points) {
    for (const std::string& window : table.windows) {
      point.windows.push_back(by_recipe[point.recipe][window]);
    }
    fill(point, table);
  }
  for (const WindowResult* result : table.points.front().windows) {
    table.tokens += static_cast<std::int64_t>(result->kld.size());
    table.context = table.context == 0 ? result->context : std::min(table.context, result->context);
  }
  return table;
}

std::vector<Pair> compare_to(const Table& table, const std::string& base) {
  const Point& other = point_named(table, base);
  const std::size_t count = table.windows.size();
  std::vector<Pair> pairs;
  for (const Point& point : table.points) {
    Pair& pair = pairs.emplace_back();
    pair.recipe = point.recipe;
    pair.bits_ratio = point.bits / other.bits;
    pair.kld_ratio = bootstrap(table.picks, count,
                               [&](std::span<const std::size_t> picks) -> std::optional<double> {
                                 const double below = sums_of(other, picks).mean_kld();
                                 if (below <= 0) return std::nullopt;
                                 return sums_of(point, picks).mean_kld() / below;
                               });
    pair.same_top = *bootstrap(
        table.picks, count, [&](std::span<const std::size_t> picks) -> std::optional<double> {
          const Sums mine = sums_of(point, picks), theirs = sums_of(other, picks);
          return mine.same_top / mine.tokens - theirs.same_top / theirs.tokens;
        });
  }
  return pairs;
}

std::vector<FamilyBits> family_bits(const Table& table, double kld, const std::string& base) {
  std::vector<std::string> names;
  std::map<std::string, std::vector<const Point*>> families;
  for (const Point& point : table.points) {
    if (families[point.family].empty()) names.push_back(point.family);
    families[point.family].push_back(&point);
  }
  std::erase_if(names, [&](const std::string& name) {
    return std::ranges::count_if(families[name], [](const Point* p) { return p->kld.value > 0; }) <
           2;
  });
  const std::size_t count = table.windows.size();
  std::vector<FamilyBits> all;
  std::string other = base;
  for (const std::string& name : names) {
    FamilyBits& entry = all.emplace_back();
    entry.family = name;
    entry.bits = bootstrap(table.picks, count, [&](std::span<const std::size_t> picks) {
      return bits_at_kld(curve_of(families[name], picks), kld);
    });
    if (other.empty() && entry.bits) other = name;
  }
  if (!base.empty() && std::ranges::find(names, base) == names.end()) {
    fail_usage("--versus-family {}: the results have no such family of two points", base);
  }
  for (FamilyBits& entry : all) {
    entry.base = other;
    if (!entry.bits || entry.family == other) continue;
    entry.smaller = bootstrap(
        table.picks, count, [&](std::span<const std::size_t> picks) -> std::optional<double> {
          const auto mine = bits_at_kld(curve_of(families[entry.family], picks), kld);
          const auto theirs = bits_at_kld(curve_of(families[other], picks), kld);
          if (!mine || !theirs) return std::nullopt;
          return *theirs / *mine;
        });
  }
  return all;
}

}  // namespace kv
