#include "kv/blend/pieces.hh"

#include "kv/container/any_place.hh"
#include "kv/session/cache_load.hh"

#include <algorithm>
#include <utility>

namespace kv {
namespace {

// A member, in a file that others read as well or in a stream of its own.
struct Member {
  std::shared_ptr<IndexedFile> file;
  std::size_t number = 0;
  std::unique_ptr<TileSource> source;  // without a file; its decoder is at the member
  std::unique_ptr<DecodedSource> decoded;
  std::string name;
  Meta meta;
  std::vector<std::int32_t> tokens;
  std::int64_t skip = 0, first_slot = 0;
};

constexpr const char* kIfSeveral = "a pipe among the files holds one: give these on stdin";

// Nothing was rounded away but to 16 bits, as caches are everywhere.
bool keeps_its_values(const Meta& meta) {
  return (meta.codec == "raw" || meta.codec == "planes") && dtype_size_bytes(meta.dtype) >= 2;
}

}  // namespace

std::vector<std::int64_t> Layout::candidates() const {
  std::vector<std::int64_t> slots;
  for (const Stretch& stretch : reused) {
    for (std::int64_t i = 0; i < stretch.count; ++i) slots.push_back(stretch.begin + i);
  }
  return slots;
}

struct Pieces::State {
  const Session& session;
  PieceOptions options;
  std::vector<Member> members;  // as they are placed
  Layout layout;

  State(const Session& of, const PieceOptions& given) : session(of), options(given) {
    std::vector<Member> found;
    if (options.paths.empty()) options.paths.emplace_back();
    for (const std::string& path : options.paths) open(path, found);
    const std::size_t prefix_tokens = open_prefix();
    for (Member& member : in_order(std::move(found))) members.push_back(std::move(member));
    for (std::size_t i = 0; i < members.size(); ++i) place(members[i], i, prefix_tokens);
    layout.suffix_begin = layout.size();
    append_fresh(options.suffix);
    const std::int64_t context = session.model->config().context;
    if (layout.size() > context) {
      fail_input("{} tokens in {} pieces and {} behind them, over the model's context of {}",
                 layout.suffix_begin, members.size(), options.suffix.size(), context);
    }
  }

  void open(const std::string& path, std::vector<Member>& into) const {
    Input input = Input::open(path);
    const bool is_stdin = path.empty() || path == "-";
    const std::string name = input.name();
    if (!is_stdin && !input.mappable() && !options.again) {
      Member member;
      member.name = name;
      member.source =
          std::make_unique<TileSource>(std::move(input), TileSource::Access::kAll, false);
      take_stream(member);
      into.push_back(std::move(member));
      return;
    }
    const std::shared_ptr<IndexedFile> file = at_any_place(std::move(input), "kvblend");
    for (std::size_t i = 0; i < file->members(); ++i) {
      Member member;
      member.file = file;
      member.number = i;
      member.name = file->members() > 1 ? fmt::format("{}: member {}", name, i) : name;
      member.meta = file->meta(i);
      member.tokens = file->tokens(i);
      require_member(member);
      into.push_back(std::move(member));
    }
  }

  void take_stream(Member& member) const {
    member.decoded =
        std::make_unique<DecodedSource>(*member.source, Range{}, Range{}, session.model->threads());
    // A reader without allow_empty refuses a stream without a member.
    member.meta = member.decoded->next_member().value();
    member.tokens = member.source->tokens();
    require_member(member);
  }

  void require_member(const Member& member) const {
    require_usable(member.meta, member.name, session);
    if (member.meta.token_count == 0) fail_input("{}: holds no tokens", member.name);
    if (member.tokens.empty()) {
      fail_input(
          "{}: holds no token ids, without which nothing can be recomputed; make it again "
          "with kvprefill",
          member.name);
    }
  }

  // Of the prefix, which becomes the first member.
  std::size_t open_prefix() {
    if (options.prefix.empty()) return 0;
    open(options.prefix, members);
    if (members.size() > 1) {
      fail_input("{}: holds {} members, where a prefix is one; take it with kvcat --members",
                 options.prefix, members.size());
    }
    if (members.front().meta.first_position != 0) {
      fail_input("{}: begins at position {}, where a prefix begins at 0", options.prefix,
                 members.front().meta.first_position);
    }
    return members.front().tokens.size();
  }

  std::vector<Member> in_order(std::vector<Member> found) const {
    if (options.order.empty()) return found;
    std::vector<Member> ordered;
    std::vector<bool> taken(found.size());
    for (const std::int64_t number : options.order) {
      const auto i = static_cast<std::size_t>(number);
      if (number < 0 || i >= found.size()) {
        fail_usage("--order: member {}: there are 0 to {}", number, found.size() - 1);
      }
      if (taken[i]) fail_usage("--order: member {} comes twice", number);
      taken[i] = true;
      ordered.push_back(std::move(found[i]));
    }
    return ordered;
  }

  void append_fresh(const std::vector<std::int32_t>& ids) {
    for (const std::int32_t id : ids) {
      layout.fresh.push_back(layout.size());
      layout.ids.push_back(id);
    }
  }

  void place(Member& member, std::size_t index, std::size_t prefix_tokens) {
    if (index > 0) append_fresh(options.separator);
    const auto stands_first = [&](std::size_t count) {
      return member.meta.first_position == 0 && member.tokens.size() >= count &&
             std::equal(layout.ids.begin(), layout.ids.begin() + static_cast<std::ptrdiff_t>(count),
                        member.tokens.begin());
    };
    if (index > 0 && prefix_tokens > 0 && stands_first(prefix_tokens)) {
      member.skip = static_cast<std::int64_t>(prefix_tokens);
      ++layout.prefix_repeats;
    } else if (index > 0 && !options.keep_bos && begins_with_bos(member)) {
      member.skip = 1;
      ++layout.bos_dropped;
    }
    const std::int64_t begin = layout.size();
    const Stretch where{begin, member.meta.token_count - member.skip};
    member.first_slot = begin;
    const bool exact = member.skip == begin && stands_first(static_cast<std::size_t>(begin)) &&
                       keeps_its_values(member.meta);
    if (where.count > 0) (exact ? layout.exact : layout.reused).push_back(where);
    layout.ids.insert(layout.ids.end(), member.tokens.begin() + member.skip, member.tokens.end());
    add_chunks(member);
    layout.stored_bytes += stored_bytes(member);
  }

  static std::uint64_t stored_bytes(const Member& member) {
    if (!member.file) {
      return member.meta.bytes_per_token() * static_cast<std::uint64_t>(member.meta.token_count);
    }
    std::uint64_t sum = 0;
    for (const format::IndexEntry& entry : member.file->index(member.number)) {
      if (entry.tile.kind != format::Kind::kE) sum += entry.size_bytes;
    }
    return sum;
  }

  bool begins_with_bos(const Member& member) const {
    const std::vector<ChunkMeta>& chunks = member.meta.chunks;
    return !chunks.empty() && chunks.front().bos && chunks.front().token_begin == 0 &&
           session.tokenizer->bos() == member.tokens.front();
  }

  void add_chunks(const Member& member) {
    std::vector<ChunkMeta> chunks = member.meta.chunks;
    if (chunks.empty()) chunks.push_back({"", 0, member.meta.token_count, false});
    for (ChunkMeta& chunk : chunks) {
      const std::int64_t begin = std::max(chunk.token_begin, member.skip);
      const std::int64_t end = chunk.token_begin + chunk.token_count;
      if (begin >= end) continue;
      chunk.bos = chunk.bos && begin == chunk.token_begin;
      chunk.token_begin = member.first_slot + begin - member.skip;
      chunk.token_count = end - begin;
      layout.chunks.push_back(std::move(chunk));
    }
  }

  LoadPart part_of(Member& member) const {
    LoadPart part;
    if (member.file) {
      part.source = std::make_unique<TileSource>(member.file, member.number, member.name);
      part.decoded =
          std::make_unique<DecodedSource>(*part.source, Range{}, Range{}, session.model->threads());
      part.decoded->next_member();
    } else {
      if (!member.source) throw std::logic_error("Pieces: a pipe is read only once");
      part.source = std::move(member.source);
      part.decoded = std::move(member.decoded);
    }
    part.meta = member.meta;
    part.name = member.name;
    part.skip = member.skip;
    part.first_slot = member.first_slot;
    part.if_several = kIfSeveral;
    return part;
  }
};

Pieces::Pieces(const Session& session, const PieceOptions& options)
    : state_(std::make_unique<State>(session, options)) {}
Pieces::~Pieces() = default;

const Layout& Pieces::layout() const { return state_->layout; }

std::vector<LoadPart> Pieces::load_parts() {
  std::vector<LoadPart> parts;
  for (Member& member : state_->members) parts.push_back(state_->part_of(member));
  return parts;
}

}  // namespace kv
