#include "kv/inspect/inspect.hh"

#include "kv/container/tile_source.hh"

#include <cstring>

namespace kv {
namespace {

void add_tile(MemberReport& report, const format::TileHeader& tile, std::uint64_t payload_bytes) {
  const TensorView shape = report.meta.shape_of(tile);
  TileSum& sum = report.tiles[{static_cast<char>(tile.kind), tile.quality, tile.codec}];
  ++sum.tiles;
  sum.stored_bytes += payload_bytes;
  // A refinement holds nothing by itself.
  if (tile.quality == 0)
    sum.raw_bytes += static_cast<std::uint64_t>(shape.shape[0]) * shape.row_bytes();
}

void add_profile(MemberReport& report, const Tile& tile) {
  std::uint64_t profile = 0;
  if (tile.header.codec != format::kClp || tile.data.size() < sizeof(profile)) return;
  std::memcpy(&profile, tile.data.data(), sizeof(profile));
  report.profiles.insert(profile);
}

std::vector<MemberReport> read_through(Input input) {
  std::vector<MemberReport> members;
  Reader reader(std::move(input));
  std::uint64_t begin = 0;
  while (std::optional<Meta> meta = reader.next_member()) {
    MemberReport& report = members.emplace_back();
    report.meta = std::move(*meta);
    report.tokens = reader.tokens();
    report.importance = reader.importance();
    while (const std::optional<Tile> tile = reader.next_tile()) {
      add_tile(report, tile->header, tile->data.size() + sizeof(format::TileHeader));
      add_profile(report, *tile);
    }
    report.hash = reader.member_hash();
    report.frames = reader.frame_count();
    report.size_bytes = reader.offset() - begin;
    begin = reader.offset();
  }
  return members;
}

std::vector<MemberReport> read_index(const IndexedFile& file) {
  std::vector<MemberReport> members;
  for (std::size_t i = 0; i < file.members(); ++i) {
    MemberReport& report = members.emplace_back();
    report.meta = file.meta(i);
    report.tokens = file.tokens(i);
    report.importance = file.importance(i);
    for (std::size_t at = 0; at < file.index(i).size(); ++at) {
      const format::IndexEntry& entry = file.index(i)[at];
      add_tile(report, entry.tile, entry.size_bytes);
      if (report.profiles.empty() && entry.tile.codec == format::kClp) {
        add_profile(report, file.tile(i, at));
      }
    }
    report.size_bytes = file.member_size_bytes(i);
  }
  return members;
}

}  // namespace

std::vector<MemberReport> inspect(const std::string& path, bool verify) {
  Input input = Input::open(path);
  if (!verify && input.size_bytes() && input.name() != "-") {
    try {
      return read_index(IndexedFile(path));
    } catch (const Error& error) {
      // No index, or damage: reading it through finds out which, and says where.
      if (error.kind() != ErrorKind::kInput) throw;
    }
  }
  return read_through(std::move(input));
}

std::string hex_line(const FieldNote& note, ByteView bytes) {
  constexpr std::size_t kShown = 16;
  std::string hex;
  for (const std::byte byte : bytes.first(std::min(kShown, bytes.size()))) {
    hex += fmt::format("{:02x} ", std::to_integer<unsigned>(byte));
  }
  if (bytes.size() > kShown) hex += "... ";
  return fmt::format("{:010x} {:>10}  {:<52} {:<24} {}\n", note.offset, note.size_bytes, hex,
                     note.name, note.value);
}

}  // namespace kv
