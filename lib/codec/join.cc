#include "kv/codec/join.hh"

#include "kv/container/any_place.hh"

namespace kv {
namespace {

// A member in a file that can be read at any place.
struct Part {
  std::shared_ptr<IndexedFile> file;
  std::size_t member = 0;
  std::string place;

  const Meta& meta() const { return file->meta(member); }
};

class Join {
 public:
  explicit Join(const std::vector<std::string>& paths) {
    for (const std::string& path : paths) add(path);
  }

  void write(Writer& writer, const std::optional<HistoryEntry>& history) {
    if (parts_.size() == 1)
      fail_input("{}: one part only; there is nothing to join", first().place);
    const bool by_layers = parts_[1].meta().first_position == parts_[0].meta().first_position;
    Meta whole = first().meta();
    for (std::size_t i = 1; i < parts_.size(); ++i) {
      require_alike(parts_[i]);
      by_layers ? add_layers(whole, i) : add_tokens(whole, i);
    }
    if (history) {
      whole.history.push_back(*history);
    } else {
      whole.history.clear();
    }
    writer.begin_member(whole, tokens(by_layers), importance(whole, by_layers));
    for (const auto& [layer, kind] : whole.tensors()) {
      std::int64_t before = 0;
      for (const Part& part : parts_) {
        copy_tensor(part, layer, kind, before, writer);
        if (!by_layers) before += part.meta().token_count;
      }
    }
    writer.end_member();
  }

 private:
  const Part& first() const { return parts_.front(); }

  void add(const std::string& path) {
    const std::shared_ptr<IndexedFile> file = at_any_place(Input::open(path), "kvcat");
    const std::string name = path.empty() ? "-" : path;
    for (std::size_t i = 0; i < file->members(); ++i) {
      parts_.push_back({file, i, fmt::format("{}: member {}", name, i)});
    }
  }

  [[noreturn]] void differ(const Part& a, const Part& b, const std::string& what) const {
    fail_input("{} and {} are no parts of one cache: {}", a.place, b.place, what);
  }

  void require_alike(const Part& part) const {
    const Meta &a = first().meta(), &b = part.meta();
    if (a.model.fingerprint != b.model.fingerprint) differ(first(), part, "two models");
    if (a.dtype != b.dtype) differ(first(), part, "two dtypes");
    if (a.rope_applied != b.rope_applied) differ(first(), part, "keys with and without RoPE");
    if (a.codec != b.codec) differ(first(), part, "two codecs");
    if (a.quality_layers != b.quality_layers)
      differ(first(), part, "two numbers of quality layers");
  }

  void add_tokens(Meta& whole, std::size_t i) const {
    const Meta& meta = parts_[i].meta();
    const std::int64_t due = whole.first_position + whole.token_count;
    if (meta.layers != whole.layers || meta.hidden_layers != whole.hidden_layers) {
      differ(parts_[i - 1], parts_[i], "different layers");
    }
    if (meta.first_position != due) {
      differ(parts_[i - 1], parts_[i],
             fmt::format("the second begins at position {} where {} is due", meta.first_position,
                         due));
    }
    for (ChunkMeta chunk : meta.chunks) {
      chunk.token_begin += whole.token_count;
      ChunkMeta* last = whole.chunks.empty() ? nullptr : &whole.chunks.back();
      // A chunk that was cut in two is one again.
      if (last && last->id == chunk.id && !chunk.bos &&
          last->token_begin + last->token_count == chunk.token_begin) {
        last->token_count += chunk.token_count;
      } else {
        whole.chunks.push_back(std::move(chunk));
      }
    }
    whole.token_count += meta.token_count;
  }

  void add_layers(Meta& whole, std::size_t i) const {
    const Meta& meta = parts_[i].meta();
    if (meta.token_count != whole.token_count || meta.first_position != whole.first_position ||
        parts_[i].file->tokens(parts_[i].member) != first().file->tokens(first().member)) {
      differ(first(), parts_[i], "different tokens");
    }
    if (!whole.layers.empty() && !meta.layers.empty() &&
        meta.layers.front().index <= whole.layers.back().index) {
      differ(parts_[i - 1], parts_[i], "the same layers, or layers not in ascending order");
    }
    if (!whole.hidden_layers.empty() && !meta.hidden_layers.empty() &&
        meta.hidden_layers.front() <= whole.hidden_layers.back()) {
      differ(parts_[i - 1], parts_[i], "E of the same layers, or not in ascending order");
    }
    whole.layers.insert(whole.layers.end(), meta.layers.begin(), meta.layers.end());
    whole.hidden_layers.insert(whole.hidden_layers.end(), meta.hidden_layers.begin(),
                               meta.hidden_layers.end());
    whole.hidden = std::max(whole.hidden, meta.hidden);
  }

  std::vector<std::int32_t> tokens(bool by_layers) const {
    std::vector<std::int32_t> all;
    for (const Part& part : parts_) {
      const std::vector<std::int32_t> ids = part.file->tokens(part.member);
      if (ids.empty() && part.meta().token_count > 0) return {};  // one without ids: none has
      all.insert(all.end(), ids.begin(), ids.end());
      if (by_layers) break;
    }
    return all;
  }

  Importance importance(const Meta& whole, bool by_layers) const {
    std::vector<Importance> of_parts;
    for (const Part& part : parts_) {
      of_parts.push_back(part.file->importance(part.member));
      if (of_parts.back().size() != importance_size_bytes(part.meta())) return {};  // not measured
    }
    Importance all;
    const std::size_t rows = by_layers ? 1 : importance_rows(whole).size();
    for (std::size_t row = 0; row < rows; ++row) {
      for (const Importance& part : of_parts) {
        const auto count = static_cast<std::ptrdiff_t>(part.size() / rows);
        const auto begin = part.begin() + static_cast<std::ptrdiff_t>(row) * count;
        all.insert(all.end(), begin, begin + count);
      }
    }
    return all;
  }

  void copy_tensor(const Part& part, std::uint32_t layer, format::Kind kind, std::int64_t before,
                   Writer& writer) const {
    const std::vector<format::IndexEntry>& index = part.file->index(part.member);
    for (std::size_t i = 0; i < index.size(); ++i) {
      format::TileHeader header = index[i].tile;
      if (header.layer != layer || header.kind != kind) continue;
      header.token_begin += static_cast<std::uint64_t>(before);
      writer.write_tile(header, part.file->tile(part.member, i).data);
    }
  }

  std::vector<Part> parts_;
};

}  // namespace

void join(const std::vector<std::string>& paths, Writer& writer,
          const std::optional<HistoryEntry>& history) {
  Join(paths).write(writer, history);
}

}  // namespace kv
