#pragma once
// Tables out of results: means over tokens, 95 % bootstrap intervals over windows, pairs of recipes
// compared on the same windows, and bits at equal KLD.

#include "kv/eval/bootstrap.hh"
#include "rq_results.hh"

#include <optional>
#include <string>
#include <vector>

namespace kv {

// A recipe on one probe.
struct Point {
  std::string recipe, family, label;  // "clp/2" is point 2 of family clp; without '/' label is ""
  double bits = 0;                    // a value: all bytes, over all values of K and V
  double to_file = 0;                 // how many times smaller than the raw bf16 file
  Interval kld, same_top, nll;        // nll: nats a token above the reference's
  double kld_p50 = 0, kld_p99 = 0;    // over the tokens of all windows
  double encode_s = 0, encode_cpu_s = 0;     // a window, median
  std::vector<const WindowResult*> windows;  // in Table::windows' order
};

struct TableOptions {
  std::string probe = "continuation", domain;  // no domain: all
  std::vector<std::string> only;               // families; none: all
  std::uint64_t seed = 1;
  std::size_t rounds = 2000;
};

struct Table {
  std::string probe;
  std::vector<std::string> windows;      // those that every recipe was measured on
  std::size_t left_out = 0;              // those that only some were
  std::int64_t tokens = 0, context = 0;  // predictions in all; the least context
  std::vector<Point> points;             // in the order of the results
  std::vector<std::vector<std::size_t>> picks;
};

// `results` outlive the table. Throws kInput when nothing is left, or when results of one window
// were measured in different set-ups.
Table make_table(const std::vector<WindowResult>& results, const TableOptions& options);

// A recipe beside another, on the same windows.
struct Pair {
  std::string recipe;
  double bits_ratio = 0;
  std::optional<Interval> kld_ratio;  // nothing where the base's KLD is 0
  Interval same_top;                  // difference
};
// Throws kUsage when the table has no recipe `base`.
std::vector<Pair> compare_to(const Table& table, const std::string& base);

// A family's bits a value at this KLD; nothing where its points do not reach it.
struct FamilyBits {
  std::string family;
  std::optional<Interval> bits;
  std::string base;
  std::optional<Interval> smaller;  // how many times smaller than `base`, paired; not of itself
};
// `base`: a family, or empty: the first one that reaches. Families of two lossy points and more.
// Throws kUsage when `base` is none of them.
std::vector<FamilyBits> family_bits(const Table& table, double kld, const std::string& base);

struct ReportOptions {
  std::string versus;  // a recipe
  std::vector<double> at_kld;
  std::string versus_family;
};
// Markdown.
std::string report_text(const Table& table, const ReportOptions& options);
std::string report_json(const Table& table, const ReportOptions& options);

}  // namespace kv
