// Summaries of results, checks, and what is told of them.
#include "error_kind.hh"
#include "kv/eval/report.hh"

#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace {

using doctest::Approx;

// Prompt i has the divergence base + i x step at each of its tokens; the first half is the same.
kv::Result result_of(int i, const std::string& recipe, double base, double step) {
  kv::Result result{.setup = "s",
                    .prompt = fmt::format("p{}", i),
                    .id = std::to_string(i),
                    .recipe = recipe,
                    .tokens = 100};
  result.kld.assign(4, base + i * step);
  result.same_top = recipe.empty() ? 4 : 2;
  result.nll = 1 + base;
  result.f1 = 0.5;
  result.bytes = 1000;
  result.ttft_s = recipe.empty() ? 2 : 0.5;
  result.computed = recipe.empty() ? 100 : 25;
  result.flops = recipe.empty() ? 1000 : 100;
  return result;
}

struct Run {
  std::vector<kv::Result> results;
  std::vector<std::string> prompts;
};

Run run_of(int prompts, double shift = 0) {
  Run run;
  for (int i = 0; i < prompts; ++i) {
    run.prompts.push_back(fmt::format("p{}", i));
    run.results.push_back(result_of(i, "", 0, 0));
    run.results.push_back(result_of(i, "all", 0.4 + shift, 0.01));
    run.results.push_back(result_of(i, "half", 0.2 + shift, 0.005));
  }
  return run;
}

const std::vector<std::string> kRecipes = {"all", "half"};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string baseline_file(const kv::Summary& summary) {
  const std::string path =
      std::filesystem::temp_directory_path() / fmt::format("eval_report_test.{}.json", getpid());
  std::ofstream(path) << kv::report_json(summary, {});
  return path;
}

std::vector<std::string> failed(const std::vector<kv::Check>& checks) {
  std::vector<std::string> names;
  for (const kv::Check& check : checks) {
    if (!check.passed) names.push_back(check.recipe + ": " + check.name);
  }
  return names;
}

}  // namespace

TEST_CASE("means over prompts, and differences on the same prompts") {
  const Run run = run_of(11);
  const kv::Summary summary = kv::summarise(run.results, run.prompts, kRecipes, {});
  CHECK(summary.ids.size() == 11);
  CHECK(summary.predictions == 44);
  CHECK(summary.tokens == 100);
  const kv::RecipeSummary& half = summary.recipes[1];
  CHECK(half.mean(kv::Metric::kKld)->value == Approx(0.225));
  CHECK(half.mean(kv::Metric::kKld)->low < 0.225);
  CHECK(half.mean(kv::Metric::kKld)->high > 0.225);
  CHECK(half.kld_p99 == Approx(0.25).epsilon(0.01));
  CHECK(half.mean(kv::Metric::kTop1)->value == 0.5);
  CHECK(half.mean(kv::Metric::kNll)->value == Approx(0.2));
  CHECK_FALSE(half.mean(kv::Metric::kExact));
  CHECK(half.flops_share == Approx(0.1));
  CHECK(half.computed == 25);
  // Half as much on every prompt: a ratio without a spread.
  CHECK(half.kld_ratio->value == Approx(0.5));
  CHECK(half.kld_ratio->low == Approx(0.5));
  CHECK(half.kld_ratio->high == Approx(0.5));
  CHECK(half.difference[0]->value == Approx(-0.225));
  CHECK(half.difference[0]->high < 0);
  CHECK_FALSE(summary.recipes[0].kld_ratio);
  CHECK(kv::summarise(run.results, run.prompts, kRecipes, {.versus = "half"})
            .recipes[0]
            .kld_ratio->value == Approx(2));
  CHECK(kv::kind_of([&] { kv::summarise(run.results, run.prompts, kRecipes, {.versus = "x"}); }) ==
        kv::ErrorKind::kUsage);
}

TEST_CASE("a prompt that lacks a recipe is left out") {
  Run run = run_of(3);
  run.results.pop_back();
  CHECK(kv::summarise(run.results, run.prompts, kRecipes, {}).ids ==
        std::vector<std::string>{"0", "1"});
  CHECK(kv::kind_of([&] { kv::summarise(run.results, {"p2"}, kRecipes, {}); }) ==
        kv::ErrorKind::kInput);
}

TEST_CASE("limits, and what is not known is not within them") {
  const Run run = run_of(11);
  const kv::Summary summary = kv::summarise(run.results, run.prompts, kRecipes, {});
  CHECK(kv::check_limits(summary, {}).empty());
  CHECK(failed(kv::check_limits(summary, {.max_kld = 0.3})) ==
        std::vector<std::string>{"all: max-kld"});
  CHECK(failed(kv::check_limits(summary, {.max_kld_p99 = 0.49})) ==
        std::vector<std::string>{"all: max-kld-p99"});
  CHECK(kv::check_limits(summary, {.max_kld_ratio = 0.51}).size() == 1);
  CHECK(failed(kv::check_limits(summary, {.max_kld_ratio = 0.49})).size() == 1);
  CHECK(failed(kv::check_limits(summary, {.min_top1 = 0.5})).empty());
  CHECK(failed(kv::check_limits(summary, {.min_top1 = 0.51})).size() == 2);
  CHECK(failed(kv::check_limits(summary, {.max_nll = 0.3})).size() == 1);
  CHECK(failed(kv::check_limits(summary, {.min_f1 = 0.6})).size() == 2);
  CHECK(failed(kv::check_limits(summary, {.max_bytes = 999})).size() == 2);
  CHECK(failed(kv::check_limits(summary, {.max_ttft_s = 0.4})).size() == 2);
  Run without = run_of(3);
  for (kv::Result& result : without.results) result.f1.reset();
  const kv::Summary unknown = kv::summarise(without.results, without.prompts, kRecipes, {});
  CHECK(failed(kv::check_limits(unknown, {.min_f1 = 0})).size() == 2);
}

TEST_CASE("against a report of before, only what is surely worse fails") {
  const Run run = run_of(11);
  const kv::Summary before = kv::summarise(run.results, run.prompts, kRecipes, {});
  const std::string path = baseline_file(before);
  const kv::Baseline baseline = kv::read_baseline(path);
  const auto against = [&](const Run& now) {
    return failed(
        kv::check_baseline(kv::summarise(now.results, now.prompts, kRecipes, {}), baseline, 1));
  };
  CHECK(kv::check_baseline(before, baseline, 1).size() == 8);  // two recipes, without exact match
  CHECK(against(run).empty());
  CHECK(against(run_of(11, -0.1)).empty());
  CHECK(against(run_of(11, 0.001)).empty());  // surely, but less than 1 %
  CHECK(against(run_of(11, 0.1)) ==
        std::vector<std::string>{"all: baseline: kld", "all: baseline: nll", "half: baseline: kld",
                                 "half: baseline: nll"});
  Run noisy = run;
  noisy.results[1].kld.assign(4, 3);  // one prompt: not surely
  CHECK(against(noisy).empty());
  CHECK(against(run_of(5)).empty());  // of the prompts that both have

  Run others = run;
  for (kv::Result& result : others.results) result.id += "x";
  CHECK(kv::kind_of([&] { against(others); }) == kv::ErrorKind::kInput);
  others = run;
  for (kv::Result& result : others.results) result.setup = "t";
  CHECK(kv::kind_of([&] { against(others); }) == kv::ErrorKind::kInput);
  std::filesystem::remove(path);
  std::ofstream(path) << "{\"setup\":\"s\",\"recipes\":[{}]}";
  CHECK(kv::kind_of([&] { kv::read_baseline(path); }) == kv::ErrorKind::kInput);
  std::filesystem::remove(path);
}

TEST_CASE("table, JUnit and picture") {
  Run run = run_of(3);
  for (kv::Result& result : run.results) {
    if (result.recipe == "half") result.recipe = "a <b> | \"c\"";
  }
  const kv::Summary summary = kv::summarise(run.results, run.prompts, {"all", "a <b> | \"c\""}, {});
  const std::vector<kv::Check> checks = kv::check_limits(summary, {.max_kld = 0.3});
  const std::string table = kv::report_text(summary, checks);
  CHECK(has(table, "3 prompts of 100 tokens, 12 predictions"));
  CHECK(has(table, "4.00x"));
  CHECK(has(table, "10.0 %"));
  CHECK(has(table, "beside 'all', paired"));
  CHECK(has(table, "2 checks, 1 failed\nFAILED all: max-kld: 0.41, at most 0.3"));
  const std::string junit = kv::report_junit(summary, checks);
  CHECK(has(junit, "<testsuites name=\"kveval\" tests=\"2\" failures=\"1\">"));
  CHECK(has(junit, "name=\"a &lt;b&gt; | &quot;c&quot;\""));
  CHECK(has(junit, "<failure message=\"0.41, at most 0.3\"/>"));
  CHECK(has(kv::report_junit(summary, {}), "name=\"ran\""));
  const std::string svg = kv::report_svg(summary, "a & b");
  CHECK(has(svg, "a &amp; b"));
  CHECK(has(svg, ">a &lt;b> | \"c\"</text>"));
}
