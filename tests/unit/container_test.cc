#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include "container_samples.hh"

#include <doctest/doctest.h>

using namespace kv;

TEST_CASE("a member comes back as it was written") {
  const Meta meta = samples::small_meta();
  const std::string bytes =
      samples::written([&](Writer& writer) { samples::write_member(writer, meta, 2); });
  const samples::MemoryFile file(bytes + bytes);

  Reader reader(file.input());
  for (std::uint64_t member = 0; member < 2; ++member) {
    const auto back = reader.next_member();
    REQUIRE(back);
    CHECK(*back == meta);
    CHECK(reader.member_index() == member);
    CHECK(reader.tokens() == samples::ids(5));
    std::size_t tiles = 0;
    while (const auto tile = reader.next_tile()) {
      ++tiles;
      const Bytes wanted = samples::values(tile->data.size(), static_cast<std::uint32_t>(tiles));
      CHECK(as_text(tile->data) == as_text(wanted));
      CHECK(tile->view(*back).shape[0] == tile->header.token_count);
    }
    CHECK(tiles == 4 * 3);
  }
  CHECK_FALSE(reader.next_member());
  CHECK(reader.offset() == 2 * bytes.size());

  const IndexedFile indexed(file.path());
  REQUIRE(indexed.members() == 2);
  CHECK(indexed.meta(1) == meta);
  CHECK(indexed.tokens(1) == samples::ids(5));
  REQUIRE(indexed.index(1).size() == 12);
  for (std::size_t entry = 0; entry < 12; ++entry) {
    const Tile tile = indexed.tile(1, entry);
    const Bytes wanted = samples::values(tile.data.size(), static_cast<std::uint32_t>(entry + 1));
    CHECK(as_text(tile.data) == as_text(wanted));
  }
}
