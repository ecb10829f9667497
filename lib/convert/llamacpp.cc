// llamacpp: the state of one sequence, as llama_state_seq_save_file() writes it (versions 2 and 3
// of the file are the same for models without M-RoPE):
//
//   u32 magic 'ggsq', u32 version, u32 n, i32 token[n]
//   u32 streams (1), u32 cells, cells of {i32 position, u32 sequences (1), i32 sequence}
//   u32 values are columns, u32 layers
//   keys a layer: i32 type, u64 bytes of a row, rows
//   values a layer, rows:    i32 type, u64 bytes of a row, rows
//                   columns: i32 type, u32 bytes of an element, u32 elements of a row,
//                            element 0 of all cells, element 1 of all cells ...
//
// Values are columns in a context without flash attention, rows in one with.

#include "layouts.hh"
#include "llamacpp_names.hh"
#include "piece_writer.hh"
#include "spool.hh"
#include "transpose.hh"

namespace kv {
namespace {

using format::Kind;

constexpr std::uint32_t kMagic = 0x67677371;

// Each head's halves (2 x dim / 2) to pairs (dim / 2 x 2), or back.
void reorder(ByteView from, const TensorView& shape, bool to_pairs, std::span<std::byte> to) {
  const std::size_t element = dtype_size_bytes(shape.dtype);
  const auto half = static_cast<std::size_t>(shape.shape[2] / 2);
  const std::size_t head = 2 * half * element;
  for (std::size_t at = 0; at < from.size(); at += head) {
    transpose(from.subspan(at, head), to_pairs ? 2 : half, to_pairs ? half : 2, element,
              to.subspan(at, head));
  }
}

class LlamaWriter : public LayoutWriter {
 public:
  LlamaWriter(const LayoutCache& cache, const LayoutTarget& target, const LlamaOptions& options)
      : cache_(cache),
        file_(*target.file),
        pieces_(target.threads),
        interleaved_(interleaves(cache)),
        columns_(options.columns) {
    for (std::size_t layer = 0; layer < cache.layers.size(); ++layer) {
      if (cache.layers[layer].index != layer) {
        fail_input(
            "layer {} is missing, and llama.cpp takes all or none; join the parts with "
            "kvcat --join",
            layer);
      }
    }
    const auto count = static_cast<std::uint32_t>(cache.token_count);
    std::vector<std::uint32_t> head = {kMagic, options.version, count};
    head.insert(head.end(), cache.tokens.begin(), cache.tokens.end());
    head.insert(head.end(), {1, count});
    for (std::uint32_t cell = 0; cell < count; ++cell) {
      head.insert(head.end(), {static_cast<std::uint32_t>(cache.first_position) + cell, 1, 0});
    }
    head.insert(head.end(), {columns_, static_cast<std::uint32_t>(cache.layers.size())});
    file_.write(std::as_bytes(std::span(head)));
    at_ = value_at_ = file_.written_bytes();
    for (std::size_t layer = 0; layer < cache.layers.size(); ++layer) {
      value_at_ += head_of(cache.shape(layer, Kind::kK), false).size();
      value_at_ += cache.size_bytes(layer, Kind::kK);
    }
    if (!file_.has_places()) spool_.emplace();
  }

  void write_layer(std::size_t layer, ByteView keys, ByteView values) override {
    const TensorView shape = cache_.shape(layer, Kind::kK);
    const Bytes head = head_of(shape, false);
    place(file_, at_, head);
    const std::size_t dim =
        static_cast<std::size_t>(shape.shape[2]) * dtype_size_bytes(shape.dtype);
    pieces_.write(file_, at_, keys.size(), dim, [&](std::size_t begin, std::span<std::byte> to) {
      const ByteView part = keys.subspan(begin, to.size());
      if (interleaved_) {
        reorder(part, shape, true, to);
      } else {
        std::memcpy(to.data(), part.data(), part.size());
      }
    });
    at_ += keys.size();
    if (spool_) {
      write_values(spool_->output(), spooled_, layer, values);
    } else {
      write_values(file_, value_at_, layer, values);
    }
  }

  void commit() override {
    if (spool_) spool_->copy_to(file_);
  }

 private:
  static void place(Output& output, std::uint64_t& at, ByteView bytes) {
    if (output.has_places()) {
      output.write_at(at, bytes);
    } else {
      output.write(bytes);
    }
    at += bytes.size();
  }

  void write_values(Output& output, std::uint64_t& at, std::size_t layer, ByteView values) {
    const TensorView shape = cache_.shape(layer, Kind::kV);
    place(output, at, head_of(shape, columns_ == 1));
    const std::size_t element = dtype_size_bytes(shape.dtype);
    const auto tokens = static_cast<std::size_t>(shape.shape[0]);
    // As many columns together as fill a line of the processor's cache in each row.
    const std::size_t column = tokens * element,
                      unit = columns_ == 1 ? 64 / element * column : element;
    pieces_.write(output, at, values.size(), unit, [&](std::size_t begin, std::span<std::byte> to) {
      if (columns_ == 1) {
        transpose(&values[begin / column * element], shape.row_bytes(), tokens, to.size() / column,
                  element, to.data(), column);
      } else {
        std::memcpy(to.data(), &values[begin], to.size());
      }
    });
    at += values.size();
  }

  Bytes head_of(const TensorView& shape, bool columns) const {
    ByteWriter head;
    head.put(ggml_type_of(shape.dtype));
    if (columns) {
      head.put(static_cast<std::uint32_t>(dtype_size_bytes(shape.dtype)));
      head.put(static_cast<std::uint32_t>(shape.row_values()));
    } else {
      head.put(static_cast<std::uint64_t>(shape.row_bytes()));
    }
    return head.take();
  }

  const LayoutCache cache_;
  Output& file_;
  PieceWriter pieces_;
  std::uint64_t at_ = 0, value_at_ = 0;  // in the file: values stand behind the keys of all layers
  std::optional<Spool> spool_;           // for them, where the file has no places
  std::uint64_t spooled_ = 0;
  bool interleaved_;
  std::uint32_t columns_;  // 1: as such
};

class LlamaReader : public LayoutReader {
 public:
  LlamaReader(const std::string& path, const LayoutCache& wanted) : path_(path) {
    cache_ = wanted;
    interleaved_ = interleaves(cache_);
    const Input input = Input::open(path);
    if (!input.size_bytes()) fail_input("{}: must be a regular file", path);
    mapping_ = input.map();
    ByteReader reader(mapping_.bytes(), path);
    read_cells(reader);
    const auto columns = reader.get<std::uint32_t>();
    if (columns > 1) fail_input("{}: not the state of a sequence that is known here", path);
    columns_ = columns == 1;
    const auto layers = reader.get<std::uint32_t>();
    if (layers != cache_.layers.size()) {
      fail_input("{}: {} layers, where the model has {}", path, layers, cache_.layers.size());
    }
    for (std::size_t layer = 0; layer < layers; ++layer) {
      keys_.push_back(read_tensor(reader, layer, Kind::kK));
    }
    for (std::size_t layer = 0; layer < layers; ++layer) {
      values_.push_back(read_tensor(reader, layer, Kind::kV));
    }
    if (reader.remaining() > 0) {
      fail_input("{}: {} bytes behind the last layer", path, reader.remaining());
    }
    cache_.dtype = keys_[0].dtype;
  }

  void read_layer(std::size_t layer, std::span<std::byte> keys,
                  std::span<std::byte> values) override {
    turned_.resize(keys_[layer].bytes.size());
    if (interleaved_) {
      reorder(keys_[layer].bytes, keys_[layer], false, turned_);
      convert(turned_, keys_[layer].dtype, keys, cache_.dtype);
    } else {
      convert(keys_[layer].bytes, keys_[layer].dtype, keys, cache_.dtype);
    }
    const TensorView& shape = values_[layer];
    turned_.resize(shape.bytes.size());
    if (columns_) {
      transpose(shape.bytes, static_cast<std::size_t>(shape.row_values()),
                static_cast<std::size_t>(shape.shape[0]), dtype_size_bytes(shape.dtype), turned_);
      convert(turned_, shape.dtype, values, cache_.dtype);
    } else {
      convert(shape.bytes, shape.dtype, values, cache_.dtype);
    }
  }

 private:
  void read_cells(ByteReader& reader) {
    if (reader.get<std::uint32_t>() != kMagic) {
      fail_input("{}: not the state of a sequence of llama.cpp", path_);
    }
    const auto version = reader.get<std::uint32_t>();
    if (version != 2 && version != 3) {
      fail_input("{}: version {} of llama.cpp's states; 2 and 3 can be read", path_, version);
    }
    const auto count = reader.get<std::uint32_t>();
    require_token_count(path_, count);
    const ByteView ids = reader.take(std::size_t{count} * sizeof(std::int32_t));
    cache_.tokens.resize(count);
    std::memcpy(cache_.tokens.data(), ids.data(), ids.size());
    cache_.token_count = count;
    const auto streams = reader.get<std::uint32_t>();
    if (streams != 1) fail_input("{}: {} streams; one sequence has one", path_, streams);
    const auto cells = reader.get<std::uint32_t>();
    if (cells != count) fail_input("{}: {} token ids and {} cells", path_, count, cells);
    for (std::uint32_t cell = 0; cell < cells; ++cell) {
      const auto position = reader.get<std::int32_t>();
      const auto sequences = reader.get<std::uint32_t>();
      reader.get<std::int32_t>();
      if (cell == 0) cache_.first_position = position;
      if (position < 0 || sequences != 1 || position - cache_.first_position != cell) {
        fail_input(
            "{}: cell {}: position {}, of {} sequences; the tokens of one sequence must "
            "follow each other",
            path_, cell, position, sequences);
      }
    }
  }

  TensorView read_tensor(ByteReader& reader, std::size_t layer, Kind kind) const {
    TensorView view = cache_.shape(layer, kind);
    const std::string place = fmt::format("{}: byte {}: layer {} {}", path_, reader.position(),
                                          layer, static_cast<char>(kind));
    const auto type = reader.get<std::int32_t>();
    const auto* known = std::find_if(kTypes.begin(), kTypes.end(),
                                     [&](const GgmlName& name) { return name.type == type; });
    if (known == kTypes.end()) {
      fail_input("{}: elements of ggml's type {}; f32, f16 and bf16 can be read", place, type);
    }
    view.dtype = known->dtype;
    bool fits = false;
    if (kind == Kind::kV && columns_) {
      const auto element = reader.get<std::uint32_t>();
      fits = element == dtype_size_bytes(view.dtype) &&
             reader.get<std::uint32_t>() == view.row_values();
    } else {
      fits = reader.get<std::uint64_t>() == view.row_bytes();
    }
    if (!fits) {
      fail_input("{}: rows of another size than the model's {} values", place, view.row_values());
    }
    view.bytes = reader.take(static_cast<std::size_t>(view.shape[0]) * view.row_bytes());
    return view;
  }

  std::string path_;
  Mapping mapping_;
  bool interleaved_ = false, columns_ = false;
  std::vector<TensorView> keys_, values_;
  Bytes turned_;
};

}  // namespace

Layout llamacpp_layout() {
  return {
      .name = "llamacpp",
      .needs_tokens = true,
      .llama = true,
      .default_dtype = DType::kF16,
      .dtypes = {DType::kF16, DType::kF32, DType::kBF16},
      .writer = [](const LayoutCache& cache, const LayoutTarget& target,
                   const LayoutOptions& options) -> std::unique_ptr<LayoutWriter> {
        return std::make_unique<LlamaWriter>(cache, target, options.llama.value_or(LlamaOptions()));
      },
      .reader = [](const std::string& path, const LayoutCache& wanted, const LayoutOptions&)
          -> std::unique_ptr<LayoutReader> { return std::make_unique<LlamaReader>(path, wanted); }};
}

}  // namespace kv
