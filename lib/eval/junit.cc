#include "kv/eval/report.hh"

#include <fmt/format.h>

#include <algorithm>

namespace kv {
namespace {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        // XML has no other control characters.
        out += static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\n' ? ' ' : c;
    }
  }
  return out;
}

std::string case_of(const Check& check, double time_s) {
  std::string text = fmt::format("    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3f}\"",
                                 escaped(check.recipe), escaped(check.name), time_s);
  if (check.passed) return text + "/>\n";
  return text +
         fmt::format(">\n      <failure message=\"{}\"/>\n    </testcase>\n", escaped(check.said));
}

}  // namespace

std::string report_junit(const Summary& summary, const std::vector<Check>& checks) {
  std::string suites;
  std::size_t all = 0, all_failed = 0;
  for (const RecipeSummary& own : summary.recipes) {
    std::string cases;
    std::size_t count = 0, failed = 0;
    for (const Check& check : checks) {
      if (check.recipe != own.recipe) continue;
      ++count;
      if (!check.passed) ++failed;
      cases += case_of(check, own.ttft_s);
    }
    if (count == 0) {
      cases = case_of({own.recipe, "ran", true, ""}, own.ttft_s);
      count = 1;
    }
    suites +=
        fmt::format("  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\">\n{}  </testsuite>\n",
                    escaped(own.recipe), count, failed, cases);
    all += count;
    all_failed += failed;
  }
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<testsuites name=\"kveval\" tests=\"{}\" failures=\"{}\">\n{}</testsuites>\n",
      all, all_failed, suites);
}

}  // namespace kv
