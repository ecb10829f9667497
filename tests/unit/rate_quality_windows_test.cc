#include "rq_windows.hh"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>

namespace {

std::string folder() {
  const char* shared = std::getenv("KVTOOLS_SHARED");
  return std::string(shared == nullptr ? KV_SHARED : shared) + "/data/text";
}

}  // namespace

TEST_CASE("runs of 12 words") {
  CHECK(kv::word_runs("1 2 3 4 5 6 7 8 9 10 11").empty());
  const auto runs = kv::word_runs("1 2 3 4 5 6 7 8 9 10 11 12 13");
  REQUIRE(runs.size() == 2);
  CHECK(kv::word_runs("2 3 4  5 6 7 8 9 10 11 12 13") ==
        kv::word_runs("2 3 4 5 6 7 8 9 10 11 12\n13"));
  CHECK(kv::word_runs("x 2 3 4 5 6 7 8 9 10 11 12 13")[1] == runs[1]);
}

TEST_CASE("test and calibration have no text in common") {
  using kv::Split;
  const auto runs_of = [](const std::vector<std::string>& texts) {
    std::set<std::uint64_t> runs;
    for (const std::string& text : texts) {
      const auto own = kv::word_runs(text);
      runs.insert(own.begin(), own.end());
    }
    return runs;
  };
  const std::string longchat = folder() + "/longchat.jsonl", musique = folder() + "/musique.jsonl";
  const auto test = kv::longchat_conversations(longchat, Split::kTest);
  const auto calibration = kv::longchat_conversations(longchat, Split::kCalibration);
  CHECK(test.size() == 15);
  CHECK(calibration.size() == 15);

  const auto known = runs_of(kv::musique_passages(musique, Split::kCalibration));
  const auto fresh = runs_of(kv::musique_passages(musique, Split::kTest));
  CHECK(known.size() > 10000);
  CHECK(fresh.size() > 10000);
  for (const std::uint64_t run : fresh) REQUIRE_FALSE(known.contains(run));

  // Conversations share greetings ("happy to discuss that topic with you"), no paragraphs.
  const auto said = runs_of(calibration);
  const auto told = runs_of(test);
  const auto both = std::ranges::count_if(told, [&](auto run) { return said.contains(run); });
  CHECK(static_cast<double>(both) < 0.02 * static_cast<double>(told.size()));
  for (const std::string& text : test) CHECK(std::ranges::count(calibration, text) == 0);
}

int main(int argc, char** argv) {
  if (!std::filesystem::exists(folder() + "/musique.jsonl")) {
    std::printf("SKIPPED: no texts in '%s'; set KVTOOLS_SHARED\n", folder().c_str());
    return 125;
  }
  return doctest::Context(argc, argv).run();
}
