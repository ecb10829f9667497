#include "kv/base/control_characters.hh"

#include <doctest/doctest.h>

TEST_CASE("control characters are spelled out, text is not touched") {
  CHECK(kv::without_controls("a\nb\x1b[31m\x7f") == "a\\x0ab\\x1b[31m\\x7f");
  CHECK(kv::without_controls("\xC2\x9B"
                             "1m") == "\\x9b1m");
  CHECK(kv::without_controls("Größe 東京 \xC2\xA0 \xC2") == "Größe 東京 \xC2\xA0 \xC2");
  CHECK(kv::without_controls(std::string_view("\0", 1)) == "\\x00");
  CHECK(kv::without_controls("") == "");
}
