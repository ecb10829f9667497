#include "kv/documents/documents.hh"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace {

kv::Input input_of(const std::string& text) {
  const int fd = memfd_create("documents", 0);
  REQUIRE(write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  REQUIRE(lseek(fd, 0, SEEK_SET) == 0);
  const kv::Fd keep(fd);
  return kv::Input::open(fmt::format("/proc/self/fd/{}", fd));
}

std::string refusal(const std::string& text) {
  try {
    kv::JsonlReader reader(input_of(text));
    while (reader.next()) {
    }
  } catch (const kv::Error& error) {
    CHECK(error.kind() == kv::ErrorKind::kInput);
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("objects, ids, other fields and the missing last newline") {
  kv::JsonlReader reader(
      input_of("{\"id\":\"a\",\"text\":\"x\\ny\",\"label\":7}\n\r\n"
               "{\"tokens\":[1,2,3]}\n{\"id\":12,\"text\":\"\"}"));
  const auto first = reader.next();
  REQUIRE(first);
  CHECK(first->id == "a");
  CHECK(first->text == "x\ny");
  CHECK(first->fields_json == R"({"id":"a","label":7})");
  const auto second = reader.next();
  REQUIRE(second);
  CHECK(second->id == "3");
  CHECK(second->tokens == std::vector<std::int32_t>{1, 2, 3});
  const auto third = reader.next();
  REQUIRE(third);
  CHECK(third->id == "12");
  CHECK_FALSE(reader.next());
}

TEST_CASE("a line larger than the read buffer") {
  const std::string big(3u << 20, 'x');
  kv::JsonlReader reader(input_of("{\"text\":\"" + big + "\"}\n{\"text\":\"y\"}\n"));
  CHECK(reader.next()->text == big);
  CHECK(reader.next()->text == "y");
}

TEST_CASE("what is refused names its line") {
  CHECK(refusal("{\"text\":\"x\"}\n[]\n").find("line 2: not a JSON object") != std::string::npos);
  CHECK(refusal("{\"text\":").find("line 1: not valid JSON") != std::string::npos);
  CHECK(refusal("{\"id\":\"x\"}").find("either") != std::string::npos);
  CHECK(refusal("{\"text\":\"x\",\"tokens\":[]}").find("either") != std::string::npos);
  CHECK(refusal("{\"tokens\":[1,-2]}").find("\"tokens\"[1]") != std::string::npos);
  CHECK(refusal("{\"tokens\":[1,4294967296]}").find("\"tokens\"[1]") != std::string::npos);
  CHECK(refusal("{\"tokens\":[1.5]}").find("\"tokens\"[0]") != std::string::npos);
  CHECK(refusal("{\"text\":7}").find("not a string") != std::string::npos);
  CHECK(refusal("{\"id\":[],\"text\":\"x\"}").find("\"id\"") != std::string::npos);
  CHECK(refusal("{\"text\":\"x\",\"a\":" + std::string(100, '[') + std::string(100, ']') + "}")
            .find("nested deeper") != std::string::npos);
}

TEST_CASE("file names are safe and distinct") {
  CHECK(kv::file_name_of("report-1.v2") == "report-1.v2");
  CHECK(kv::file_name_of("../etc/passwd") == "%2E.%2Fetc%2Fpasswd");
  CHECK(kv::file_name_of("a b") == "a%20b");
  const std::string longer(300, 'x');
  CHECK(kv::file_name_of(longer).size() == 200);
  CHECK(kv::file_name_of(longer) != kv::file_name_of(longer + "y"));
}

TEST_CASE("shards part the input") {
  const kv::Shard shard = kv::parse_shard("2/3");
  CHECK_FALSE(shard.takes(0));
  CHECK(shard.takes(1));
  CHECK(shard.takes(4));
  for (const char* bad : {"", "1", "0/2", "3/2", "1/", "a/b", "1/2x", "-1/2"}) {
    CHECK_THROWS_AS(kv::parse_shard(bad), kv::Error);
  }
}
