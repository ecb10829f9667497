#include "kv/base/error.hh"
#include "kv/eval/divergence.hh"
#include "rq_curve.hh"
#include "rq_plot.hh"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

namespace {

using doctest::Approx;

std::vector<float> logs(std::initializer_list<double> probabilities, double shift = 0) {
  std::vector<float> out;
  for (const double p : probabilities) out.push_back(static_cast<float>(std::log(p) + shift));
  return out;
}

kv::WindowResult result(const std::string& recipe, const std::string& window, std::uint64_t bytes,
                        std::vector<double> kld) {
  kv::WindowResult r{"setup", window, "longchat", recipe, "shell of " + recipe, "continuation"};
  r.context = 64;
  r.values = 1000;
  r.bytes = bytes;
  r.raw_bytes = 2000;
  r.same_top = static_cast<std::int64_t>(kld.size());
  r.kld = std::move(kld);
  r.targets = 1;
  return r;
}

// Two families of two points on two windows; "b" has half the bits of "a" at the same KLD.
std::vector<kv::WindowResult> two_families() {
  std::vector<kv::WindowResult> all;
  for (const auto& [window, scale] : {std::pair("w0", 1.0), {"w1", 3.0}}) {
    all.push_back(result("raw", window, 2000, {0, 0}));
    all.push_back(result("a/1", window, 1000, {0.001 * scale, 0.003 * scale}));
    all.push_back(result("a/2", window, 250, {0.1 * scale, 0.3 * scale}));
    all.push_back(result("b/1", window, 500, {0.002 * scale, 0.002 * scale}));
    all.push_back(result("b/2", window, 125, {0.2 * scale, 0.2 * scale}));
  }
  return all;
}

struct TempFile {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("rate_quality_test." + std::to_string(::getpid()));
  ~TempFile() { std::filesystem::remove(path); }
};

}  // namespace

TEST_CASE("KLD, top-1 and NLL of known distributions") {
  std::vector<float> rows = logs({0.5, 0.25, 0.25});
  const auto second = logs({0.2, 0.2, 0.6}, 7);
  rows.insert(rows.end(), second.begin(), second.end());
  const kv::Reference reference(rows, 3, {1});
  CHECK(reference.rows() == 2);

  auto other = logs({0.25, 0.5, 0.25}, -3);  // a shift of all logits is no difference
  other.insert(other.end(), second.begin(), second.end());
  const auto metrics = reference.compare(other);
  REQUIRE(metrics.size() == 2);
  CHECK(metrics[0].kld == Approx(0.25 * std::log(2.0)).epsilon(1e-6));
  CHECK_FALSE(metrics[0].same_top);
  CHECK(metrics[0].nll == Approx(std::log(2.0)).epsilon(1e-6));
  CHECK(metrics[0].reference_nll == Approx(std::log(4.0)).epsilon(1e-6));
  CHECK(metrics[1].kld == 0);
  CHECK(metrics[1].same_top);
  CHECK(metrics[1].nll == 0);  // no target

  for (const kv::TokenMetrics& same : reference.compare(rows)) {
    CHECK(same.kld == 0);
    CHECK(same.same_top);
    CHECK(same.nll == same.reference_nll);
  }
}

TEST_CASE("large logits do not overflow and near ones are told apart") {
  std::vector<float> rows(1000, -300.0f);
  rows[10] = 500;
  rows[11] = 499;
  const kv::Reference reference(rows, 1000, {});
  auto other = rows;
  other[11] = 499.01f;
  // Of a Bernoulli variable: p log(p / q) + (1 - p) log((1 - p) / (1 - q)).
  const double p = 1 / (1 + std::exp(-1.0)), q = 1 / (1 + std::exp(-1.0 + 0.01));
  const double kld = p * std::log(p / q) + (1 - p) * std::log((1 - p) / (1 - q));
  CHECK(reference.compare(other)[0].kld == Approx(kld).epsilon(1e-2));
  CHECK(kld < 2e-5);
}

TEST_CASE("what does not fit is refused") {
  CHECK_THROWS_AS(kv::Reference({1, 2, 3, 4}, 3, {}), kv::Error);
  CHECK_THROWS_AS(kv::Reference({1, 2, 3}, 3, {3}), kv::Error);
  CHECK_THROWS_AS(kv::Reference({1, 2, 3}, 3, {0, 0}), kv::Error);
  CHECK_THROWS_AS(kv::Reference({1, 2, 3}, 3, {}).compare(std::vector<float>(6)), kv::Error);
}

TEST_CASE("quantiles") {
  CHECK(kv::quantile({}, 0.5) == 0);
  CHECK(kv::quantile({3, 1, 2}, 0.5) == 2);
  CHECK(kv::quantile({0, 1, 2, 3}, 0.5) == 1.5);
  CHECK(kv::quantile({0, 10}, 0.99) == Approx(9.9));
  CHECK(kv::quantile({5, 1}, 1) == 5);
}

TEST_CASE("bits at equal KLD lie on the line in logs, without extrapolation") {
  // KLD = 0.1 / bits^2
  std::vector<kv::RatePoint> curve = {{4, 0.1 / 16}, {1, 0.1}, {2, 0.1 / 4}};
  CHECK(*kv::bits_at_kld(curve, 0.1 / 9) == Approx(3));
  CHECK(*kv::bits_at_kld(curve, 0.1) == Approx(1));
  CHECK(*kv::bits_at_kld(curve, 0.1 / 16) == Approx(4));
  CHECK_FALSE(kv::bits_at_kld(curve, 0.2));
  CHECK_FALSE(kv::bits_at_kld(curve, 0.001));
  curve.push_back({16, 0});  // lossless: no place on a log axis
  CHECK_FALSE(kv::bits_at_kld(curve, 0.001));
  CHECK_FALSE(kv::bits_at_kld({}, 0.1));
  // Where a curve is not monotone, the cheapest crossing.
  CHECK(*kv::bits_at_kld({{1, 0.1}, {2, 0.01}, {3, 0.05}, {4, 0.001}}, 0.02) < 2);
}

TEST_CASE("the bootstrap is the seed's") {
  const auto picks = kv::bootstrap_picks(10, 500, 1);
  CHECK(picks == kv::bootstrap_picks(10, 500, 1));
  CHECK(picks != kv::bootstrap_picks(10, 500, 2));
  // mt19937_64's first word for seed 1 is fixed by the C++ standard's algorithm.
  CHECK(picks[0][0] == 2469588189546311528u % 10);

  const std::vector<double> values = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  const kv::Statistic mean = [&](std::span<const std::size_t> some) -> std::optional<double> {
    double sum = 0;
    for (const std::size_t i : some) sum += values[i];
    return sum / static_cast<double>(some.size());
  };
  const kv::Interval interval = *kv::bootstrap(picks, 10, mean);
  CHECK(interval.value == 5.5);
  // The mean of 10 has a standard error of 0.908: the normal interval is 3.72 to 7.28.
  CHECK(interval.low == Approx(3.72).epsilon(0.06));
  CHECK(interval.high == Approx(7.28).epsilon(0.04));

  const kv::Statistic first = [](std::span<const std::size_t> some) -> std::optional<double> {
    if (some[0] != 0) return std::nullopt;
    return 1;
  };
  CHECK(std::isnan(kv::bootstrap(picks, 10, first)->low));  // defined in a tenth of the samples
  const kv::Statistic never = [](std::span<const std::size_t>) { return std::optional<double>(); };
  CHECK_FALSE(kv::bootstrap(picks, 10, never));
}

TEST_CASE("the table takes means over tokens and pairs over windows") {
  auto all = two_families();
  const kv::Table table = kv::make_table(all, {});
  CHECK(table.windows == std::vector<std::string>{"w0", "w1"});
  CHECK(table.tokens == 4);
  REQUIRE(table.points.size() == 5);
  const kv::Point& a = table.points[1];
  CHECK(a.family == "a");
  CHECK(a.label == "1");
  CHECK(a.bits == 8);
  CHECK(a.to_file == 2);
  CHECK(a.kld.value == Approx(0.004));
  CHECK(a.kld.low == Approx(0.002));  // twice the one or the other window
  CHECK(a.kld.high == Approx(0.006));
  CHECK(table.points[0].kld.high == 0);

  // The windows differ by 3, but what is paired does not.
  const auto pairs = kv::compare_to(table, "a/1");
  CHECK(pairs[3].recipe == "b/1");
  CHECK(pairs[3].bits_ratio == 0.5);
  CHECK(pairs[3].kld_ratio->low == Approx(1));
  CHECK(pairs[3].kld_ratio->high == Approx(1));
  CHECK_FALSE(kv::compare_to(table, "raw")[1].kld_ratio);
  CHECK_THROWS_AS(kv::compare_to(table, "c"), kv::Error);

  const auto families = kv::family_bits(table, 0.04, "");
  REQUIRE(families.size() == 2);  // raw is one point
  CHECK(families[0].bits->value == Approx(4));
  CHECK_FALSE(families[0].smaller);
  CHECK(families[1].bits->value == Approx(2));
  CHECK(families[1].smaller->value == Approx(2));
  CHECK(families[1].smaller->low == Approx(2));
  CHECK_FALSE(kv::family_bits(table, 0.9, "")[0].bits);

  all.push_back(result("a/1", "w2", 1000, {1}));  // a window that the others lack
  CHECK(kv::make_table(all, {}).left_out == 1);
  CHECK(kv::make_table(all, {}).points[1].kld.value == Approx(0.004));
  all.back().setup = "other";
  all.back().window = "w0";
  CHECK_THROWS_AS(kv::make_table(all, {}), kv::Error);
  CHECK_THROWS_AS(kv::make_table(all, {.domain = "none"}), kv::Error);
}

TEST_CASE("results come back from their lines, the last of equal ones, without a torn end") {
  const TempFile file;
  kv::WindowResult first = result("a/\"1\"\n", "w0", 7, {0, 1.23456789e-5, -1e-12});
  first.nll_sum = 1.0 / 3;
  kv::WindowResult again = first;
  again.bytes = 8;
  std::ofstream(file.path) << kv::window_result_line(first) << kv::window_result_line(again)
                           << kv::window_result_line(result("b", "w0", 1, {1})) << "{\"setup\":";
  CHECK(kv::read_window_results(file.path).size() == 2);
  kv::mend_results(file.path);
  const auto read = kv::read_window_results(file.path);
  REQUIRE(read.size() == 2);
  CHECK(read[0].recipe == first.recipe);
  CHECK(read[0].bytes == 8);
  CHECK(read[0].nll_sum == first.nll_sum);
  CHECK(read[0].kld[0] == 0);
  CHECK(read[0].kld[1] == Approx(1.235e-5));
  std::ofstream(file.path, std::ios::app) << "{\"setup\":1}\n";
  CHECK_THROWS_AS(kv::read_window_results(file.path), kv::Error);
}

TEST_CASE("the plot has a marker a point and a name a line") {
  const auto all = two_families();
  const std::string svg = kv::plot_svg(kv::make_table(all, {}), "bits < & bytes");
  const auto count = [&](const std::string& what) {
    std::size_t found = 0;
    for (std::size_t at = svg.find(what); at != std::string::npos; at = svg.find(what, at + 1)) {
      ++found;
    }
    return found;
  };
  CHECK(count("class=\"name\"") == 3);  // raw, a, b
  CHECK(count("stroke-linejoin") == 2);
  CHECK(count("<circle") == 1);  // raw in the strip
  CHECK(count("bits &lt; &amp; bytes") == 1);
  CHECK(count("exactly 0") == 1);
  CHECK(count("nan") == 0);
  CHECK(count("inf") == 0);
}
