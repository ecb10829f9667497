// Prompts, recipes and answers of kveval, and results that are kept.
#include "error_kind.hh"
#include "kv/eval/answers.hh"
#include "kv/eval/prompts.hh"
#include "kv/eval/recipe.hh"
#include "kv/eval/results.hh"

#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace {

using doctest::Approx;
using Words = std::vector<std::string>;

struct Folder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / fmt::format("eval_test.{}", getpid());
  Folder() { std::filesystem::create_directory(path); }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string file(const std::string& name, const std::string& text) const {
    std::ofstream(path / name) << text;
    return path / name;
  }
};

std::vector<kv::EvalPrompt> prompts_of(const std::string& text) {
  const Folder folder;
  return kv::read_eval_prompts(kv::Input::open(folder.file("prompts", text)));
}

std::string refusal(const std::string& text) {
  try {
    prompts_of(text);
  } catch (const kv::Error& error) {
    CHECK(error.kind() == kv::ErrorKind::kInput);
    return error.what();
  }
  return "accepted";
}

bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

kv::Result a_result(const std::string& prompt, const std::string& recipe) {
  kv::Result result{.setup = "s", .prompt = prompt, .id = "7", .recipe = recipe, .tokens = 9};
  result.kld = {0.25, 0};
  result.same_top = 1;
  result.answer = "it \"is\"\n";
  return result;
}

}  // namespace

TEST_CASE("answers are compared as SQuAD has it") {
  CHECK(kv::normalised_answer(" The  Old-Man, and a SEA! ") == "oldman and sea");
  CHECK(kv::answer_f1("the red house", "a red barn") == Approx(0.5));
  CHECK(kv::answer_f1("red red red", "red") == Approx(0.5));
  CHECK(kv::answer_f1("Red.", "red") == 1);
  CHECK(kv::answer_f1("", "red") == 0);
  CHECK(kv::answer_f1("the", "") == 1);
  const kv::AnswerScore best = kv::score_answer("in 1889", {"1889", "In 1889", "1900"});
  CHECK(best.f1 == 1);
  CHECK(best.exact);
  const kv::AnswerScore near = kv::score_answer("in 1889", {"1889", "1900"});
  CHECK(near.f1 == Approx(2.0 / 3));
  CHECK_FALSE(near.exact);
  CHECK(kv::first_line("\n  It was 1889. \nQuestion:") == "It was 1889.");
  CHECK(kv::first_line(" \n ").empty());
}

TEST_CASE("prompts have chunks or a context, a question, perhaps answers") {
  const auto prompts = prompts_of(
      "{\"id\": 7, \"chunks\": [\"a\", \"b\"], \"question\": \"q\", \"answers\": [\"x\", "
      "\"y\"]}\n\n"
      "{\"context\": \"c\", \"question\": \"\", \"other\": 1}\n");
  REQUIRE(prompts.size() == 2);
  CHECK(prompts[0].id == "7");
  CHECK(prompts[0].chunks == Words{"a", "b"});
  CHECK(prompts[0].answers == Words{"x", "y"});
  CHECK(prompts[1].id == "3");
  CHECK(prompts[1].chunks == Words{"c"});
  CHECK(prompts[1].answers.empty());
  CHECK(has(prompts[1].place, ": line 3"));

  CHECK(has(refusal(""), "holds no prompts"));
  CHECK(has(refusal("\n[1]"), ": line 2: not a JSON object"));
  CHECK(has(refusal("{"), "not valid JSON"));
  CHECK(has(refusal("{\"question\":\"q\"}"), "either"));
  CHECK(has(refusal("{\"question\":\"q\",\"chunks\":[\"a\"],\"context\":\"a\"}"), "either"));
  CHECK(has(refusal("{\"question\":\"q\",\"chunks\":[]}"), "\"chunks\" is empty"));
  CHECK(has(refusal("{\"question\":\"q\",\"chunks\":[\"a\",\"\"]}"), "a chunk is empty"));
  CHECK(has(refusal("{\"question\":\"q\",\"chunks\":\"a\"}"), "not a list"));
  CHECK(has(refusal("{\"question\":1,\"context\":\"a\"}"), "\"question\" is not text"));
  CHECK(has(refusal("{\"context\":\"a\"}"), "no \"question\""));
  CHECK(has(refusal("{\"context\":\"a\",\"question\":\"q\",\"answers\":[1]}"), "\"answers\""));
  CHECK(has(refusal("{\"id\":[],\"context\":\"a\",\"question\":\"q\"}"), "\"id\""));
  const std::string same = "{\"id\":\"x\",\"context\":\"a\",\"question\":\"q\"}\n";
  CHECK(has(refusal(same + same), "line 2: another prompt has the id 'x'"));
  CHECK(has(refusal(std::string(100, '[')), "nested"));
}

TEST_CASE("recipes are parted as a shell parts them, where words and quotes are all there is") {
  const auto words = [](const std::string& text) {
    std::vector<Words> all;
    for (const kv::StageText& stage : kv::parse_recipe(text, {{"Q", "two words"}})) {
      all.push_back(stage.words);
    }
    return all;
  };
  CHECK(words("kvencode -l 3 |kvdecode") ==
        std::vector<Words>{{"kvencode", "-l", "3"}, {"kvdecode"}});
  CHECK(words("a 'b | c' \"d \\\" $Q ${Q}\" e\\ f --x=1 ''") ==
        std::vector<Words>{{"a", "b | c", "d \" two words two words", "e f", "--x=1", ""}});
  CHECK(words("x --r=15% \"$\"''") == std::vector<Words>{{}});
  // The shell's: each stage for itself, or all of it.
  CHECK(words("a <b | c *.kv | d") == std::vector<Words>{{}, {}, {"d"}});
  for (const char* text : {"a $Q", "a \"$OTHER\"", "A=1 a", "a ~", "a {b,c}", "a #b", "a [b]"}) {
    CAPTURE(text);
    CHECK(words(text) == std::vector<Words>{{}});
  }
  for (const char* text : {"(a | b) | c", "a; b | c", "a | b && c", "a || b", "a |& b",
                           "a \"$(b | c)\"", "a \"`b`\" | c", "a\nb | c"}) {
    CAPTURE(text);
    const auto stages = kv::parse_recipe(text, {});
    REQUIRE(stages.size() == 1);
    CHECK(stages[0].text == text);
    CHECK(stages[0].words.empty());
  }
  CHECK(kv::parse_recipe(" a  b | c ", {})[0].text == "a  b");
  for (const char* text : {"", " ", "a |", "| a", "a | | b", "a 'b", "a \"b"}) {
    CAPTURE(text);
    CHECK(kv::kind_of([&] { kv::parse_recipe(text, {}); }) == kv::ErrorKind::kUsage);
  }
}

TEST_CASE("results come back, the later of two, and a torn line is passed over") {
  const Folder folder;
  const std::string path = folder.path / "results";
  {
    const kv::ResultLog log(path);
    log.add(a_result("p", "r"));
    kv::Result other = a_result("p", "");
    other.nll = 1.5;
    other.f1 = 0.5;
    other.computed = 12.25;
    log.add(other);
  }
  std::ofstream(path, std::ios::app) << "{\"setup\":\"s\",\"pro";
  {
    const kv::ResultLog log(path);
    kv::Result again = a_result("p", "r");
    again.bytes = 77;
    log.add(again);
  }
  const std::vector<kv::Result> results = kv::read_results(path);
  REQUIRE(results.size() == 2);
  CHECK(results[0].recipe == "r");
  CHECK(results[0].bytes == 77);
  CHECK(results[0].kld == std::vector<double>{0.25, 0});
  CHECK(results[0].answer == "it \"is\"\n");
  CHECK_FALSE(results[0].nll);
  CHECK(results[1].nll == 1.5);
  CHECK(results[1].f1 == 0.5);
  CHECK_FALSE(results[1].exact);
  CHECK(results[1].computed == 12.25);

  const std::string foreign = folder.file("foreign", "my notes");
  CHECK(kv::kind_of([&] { kv::read_results(foreign); }) == kv::ErrorKind::kInput);
  CHECK(kv::kind_of([&] { const kv::ResultLog log(foreign); }) == kv::ErrorKind::kInput);
  CHECK(std::filesystem::file_size(foreign) == 8);
  const std::string head = "{\"kveval\":\"results\",\"version\":1}\n";
  const std::string deep = folder.file("deep", head + std::string(100, '['));
  CHECK(kv::kind_of([&] { kv::read_results(deep); }) == kv::ErrorKind::kInput);
  std::ofstream(path, std::ios::app) << "{\"setup\":1}\n";
  CHECK(kv::kind_of([&] { kv::read_results(path); }) == kv::ErrorKind::kInput);
}
