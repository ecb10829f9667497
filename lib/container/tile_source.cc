#include "kv/container/tile_source.hh"

namespace kv {

struct TileSource::State {
  std::string name;
  std::optional<std::uint64_t> size_bytes;
  std::shared_ptr<IndexedFile> file;
  std::optional<Reader> reader;
  std::size_t next_member = 0, end_member = 0;  // of the file
  std::size_t next_entry = 0;                   // of the current member's index
  // Where others read the file as well: of the tiles given out. What they touched counts as theirs.
  std::optional<std::uint64_t> own_bytes;
};

TileSource::TileSource(const std::string& path, Access access)
    : TileSource(Input::open(path), access, false) {}

TileSource::TileSource(Input input, Access access, bool allow_empty)
    : state_(std::make_unique<State>()) {
  state_->name = input.name();
  state_->size_bytes = input.size_bytes();
  if (access == Access::kSome && input.mappable()) {
    try {
      state_->file = std::make_shared<IndexedFile>(input);
      state_->end_member = state_->file->members();
      return;
    } catch (const Error& error) {
      // No index, or damage: reading it through finds out which, and says where.
      if (error.kind() != ErrorKind::kInput) throw;
    }
  }
  state_->reader.emplace(std::move(input), Reader::Options{.allow_empty = allow_empty});
}

TileSource::TileSource(std::shared_ptr<IndexedFile> file, std::size_t member, std::string name)
    : state_(std::make_unique<State>()) {
  state_->name = std::move(name);
  state_->file = std::move(file);
  state_->next_member = member;
  state_->end_member = member + 1;
  state_->own_bytes = 0;
}

TileSource::~TileSource() = default;

std::optional<Meta> TileSource::next_member() {
  State& state = *state_;
  if (state.reader) return state.reader->next_member();
  if (state.next_member == state.end_member) return std::nullopt;
  state.next_entry = 0;
  return state.file->meta(state.next_member++);
}

std::vector<std::int32_t> TileSource::tokens() {
  State& state = *state_;
  return state.reader ? state.reader->tokens() : state.file->tokens(state.next_member - 1);
}

Importance TileSource::importance() {
  State& state = *state_;
  return state.reader ? state.reader->importance() : state.file->importance(state.next_member - 1);
}

std::optional<Tile> TileSource::next_tile(const WantFn& want) {
  State& state = *state_;
  if (state.reader) {
    while (std::optional<Tile> tile = state.reader->next_tile()) {
      if (want(tile->header)) return tile;
    }
    return std::nullopt;
  }
  const std::vector<format::IndexEntry>& index = state.file->index(state.next_member - 1);
  while (state.next_entry < index.size()) {
    const std::size_t entry = state.next_entry++;
    if (!want(index[entry].tile)) continue;
    if (state.own_bytes) *state.own_bytes += sizeof(format::FrameHeader) + index[entry].size_bytes;
    return state.file->tile(state.next_member - 1, entry);
  }
  return std::nullopt;
}

bool TileSource::keeps_tiles() const { return state_->file != nullptr; }

const std::string& TileSource::name() const { return state_->name; }

std::uint64_t TileSource::member_index() const {
  return state_->reader ? state_->reader->member_index() : state_->next_member - 1;
}

std::uint64_t TileSource::read_bytes() const {
  if (state_->own_bytes) return *state_->own_bytes;
  return state_->reader ? state_->reader->offset() : state_->file->touched_bytes();
}

std::optional<std::uint64_t> TileSource::size_bytes() const { return state_->size_bytes; }

}  // namespace kv
