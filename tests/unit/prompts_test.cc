#include "kv/documents/prompts.hh"

#include "error_kind.hh"
#include "kv/documents/word_f1.hh"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace kv;

namespace {

std::vector<Prompt> prompts_of(const std::string& text) {
  const Fd fd(memfd_create("prompts", 0));
  REQUIRE(write(fd.number(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  return read_prompts(Input::open(fmt::format("/proc/self/fd/{}", fd.number())));
}

}  // namespace

TEST_CASE("prompts in parts, and conversations") {
  const std::vector<Prompt> prompts = prompts_of(
      "{\"prompt\":\"Q:\",\"completion\":\" A\",\"more\":1}\n\n"
      "{\"prompt\":[\"Text.\",\"Q:\"],\"completion\":\"B\",\"group\":\"x\"}\r\n"
      "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},"
      "{\"role\":\"assistant\",\"content\":\"yes\"}]}");
  REQUIRE(prompts.size() == 3);
  CHECK(prompts[0].parts == std::vector<std::string>{"Q:"});
  CHECK(prompts[0].completion == " A");
  CHECK(prompts[1].parts == std::vector<std::string>{"Text.", "Q:"});
  CHECK(prompts[1].group == "x");
  CHECK(prompts[1].place.ends_with("line 3"));
  REQUIRE(prompts[2].messages.size() == 2);
  CHECK(prompts[2].messages[1].content == "yes");
}

TEST_CASE("lines that are no prompts") {
  const std::string deep(70, '[');
  for (const std::string& bad :
       {std::string(), std::string("\n \n"), std::string("{"), std::string("[]"), deep,
        std::string(R"({"prompt":"a"})"), std::string(R"({"prompt":"a","completion":""})"),
        std::string(R"({"prompt":"","completion":"b"})"),
        std::string(R"({"prompt":[],"completion":"b"})"),
        std::string(R"({"prompt":[1],"completion":"b"})"),
        std::string(R"({"prompt":"a","completion":"b","group":1})"),
        std::string(R"({"prompt":"a","completion":"b","messages":[]})"),
        std::string(R"({"messages":[]})"), std::string(R"({"messages":{}})"),
        std::string(R"({"messages":[{"role":"assistant","content":"x"}]})"),
        std::string(R"({"messages":[{"role":"user","content":"x"}]})"),
        std::string(R"({"messages":[{"role":"tool","content":"x"}]})"),
        std::string(R"({"messages":[{"role":"user"}]})"), std::string(R"({"text":"a"})")}) {
    CAPTURE(bad);
    CHECK(kind_of([&] { prompts_of(bad); }) == ErrorKind::kInput);
  }
}

TEST_CASE("words that are right") {
  CHECK(word_f1("1889", " 1889.") == 1);
  CHECK(word_f1("It was completed in 1889.", "1889") == doctest::Approx(2.0 / 6));
  CHECK(word_f1("a a b", "A b b") == doctest::Approx(4.0 / 6));
  CHECK(word_f1("x=1; y=2", "y 2 x 1") == 1);
  CHECK(word_f1("", "one") == 0);
  CHECK(word_f1("...", "") == 1);
}
