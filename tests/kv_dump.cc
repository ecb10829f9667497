// kv_dump [--index] FILE: all that a reader sees, as JSON; tile data in hexadecimal. For
// check_refdecode.py.
#include "kv/container/reader.hh"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <cstring>

namespace {

using nlohmann::json;
using namespace kv;

json describe(const Tile& tile) {
  std::string hex;
  for (const std::byte b : tile.data) hex += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  return {{"kind", std::string(1, static_cast<char>(tile.header.kind))},
          {"dtype", dtype_name(tile.header.dtype)},
          {"codec", tile.header.codec},
          {"layer", tile.header.layer},
          {"token_begin", tile.header.token_begin},
          {"token_count", tile.header.token_count},
          {"quality", tile.header.quality},
          {"data", hex}};
}

json dump_stream(const std::string& path) {
  json members = json::array();
  Reader reader(Input::open(path));
  while (const auto meta = reader.next_member()) {
    json tiles = json::array();
    const std::vector<std::int32_t> tokens = reader.tokens();
    const Importance importance = reader.importance();
    while (const auto tile = reader.next_tile()) tiles.push_back(describe(*tile));
    members.push_back({{"meta", json::parse(meta_to_json(*meta))},
                       {"tokens", tokens},
                       {"importance", importance},
                       {"tiles", tiles},
                       {"member_hash", fmt::format("{:016x}", reader.member_hash())}});
  }
  return members;
}

json dump_index(const std::string& path) {
  json members = json::array();
  const IndexedFile file(path);
  for (std::size_t member = 0; member < file.members(); ++member) {
    json tiles = json::array();
    for (std::size_t entry = 0; entry < file.index(member).size(); ++entry) {
      tiles.push_back(describe(file.tile(member, entry)));
    }
    members.push_back({{"meta", json::parse(meta_to_json(file.meta(member)))},
                       {"tokens", file.tokens(member)},
                       {"importance", file.importance(member)},
                       {"tiles", tiles}});
  }
  return members;
}

}  // namespace

int main(int argc, char** argv) {
  const bool index = argc == 3 && std::strcmp(argv[1], "--index") == 0;
  if (argc != 2 && !index) return 2;
  try {
    const json members = index ? dump_index(argv[2]) : dump_stream(argv[1]);
    std::printf("%s\n", members.dump().c_str());
  } catch (const Error& error) {
    std::fprintf(stderr, "kv_dump: %s\n", error.what());
    return static_cast<int>(error.kind());
  }
  return 0;
}
