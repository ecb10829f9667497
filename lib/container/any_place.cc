#include "kv/container/any_place.hh"

#include "kv/container/tile_source.hh"
#include "kv/container/writer.hh"

#include <unistd.h>

#include <cstdlib>

namespace kv {
namespace {

void copy_members(Input input, Output& output) {
  Writer writer(output);
  TileSource source(std::move(input), TileSource::Access::kAll, false);
  while (const std::optional<Meta> meta = source.next_member()) {
    writer.begin_member(*meta, source.tokens(), source.importance());
    const auto all = [](const format::TileHeader&) { return true; };
    while (const std::optional<Tile> tile = source.next_tile(all)) {
      writer.write_tile(tile->header, tile->data);
    }
    writer.end_member();
  }
  output.commit();
}

}  // namespace

std::shared_ptr<IndexedFile> at_any_place(Input input, const char* for_tool) {
  if (input.mappable()) {
    try {
      return std::make_shared<IndexedFile>(input);
    } catch (const Error& error) {
      // No index, or damage: copying it finds out which, and says where.
      if (error.kind() != ErrorKind::kInput) throw;
    }
  }
  const char* folder = std::getenv("TMPDIR");
  std::string name = fmt::format("{}/{}.XXXXXX", folder && *folder ? folder : "/tmp", for_tool);
  const Fd copy(mkstemp(name.data()));
  if (copy.number() < 0) fail_errno("create " + name);
  unlink(name.c_str());
  Output output = Output::from_fd(Fd(dup(copy.number())), name);
  copy_members(std::move(input), output);
  return std::make_shared<IndexedFile>(fmt::format("/proc/self/fd/{}", copy.number()));
}

}  // namespace kv
