// hicache and lmcache: stores with a file for each block of tokens, named by the hash of all tokens
// up to its end, of all layers: K [layers][tokens][heads][dim], then V alike. Of a model on several
// devices each has its own files, with its part of the heads.
//
// hicache is the file backend of SGLang's HiCache where its pages are layer_first; lmcache is the
// fs connector of LMCache, without its chunk headers.

#include "kv/convert/engine_keys.hh"
#include "layouts.hh"
#include "new_folder.hh"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

namespace kv {
namespace {

using format::Kind;

enum class Engine { kHicache, kLmcache };

std::string dtype_word(DType dtype) {
  return dtype == DType::kBF16 ? "bfloat16" : dtype == DType::kF16 ? "half" : "float";
}

// Where things are in the files.
class Pages {
 public:
  Pages(Engine engine, const LayoutCache& cache, const StoreOptions& store, std::int64_t block)
      : engine_(engine), cache_(cache), store_(store), block_(static_cast<std::size_t>(block)) {
    for (const LayerMeta& layer : cache.layers) {
      const LayerGeometry& geometry = layer.geometry;
      if (geometry.k_dim != geometry.v_dim ||
          geometry.kv_heads != cache.layers[0].geometry.kv_heads ||
          geometry.k_dim != cache.layers[0].geometry.k_dim) {
        fail_input("layer {}: K and V of all layers have one shape in these stores", layer.index);
      }
      if (geometry.kv_heads % store.tp != 0) {
        fail_usage("--tp {}: {} KV heads are no multiple", store.tp, geometry.kv_heads);
      }
    }
  }

  std::size_t block() const { return block_; }
  std::size_t ranks() const { return static_cast<std::size_t>(store_.tp); }
  std::size_t blocks() const { return static_cast<std::size_t>(cache_.token_count) / block_; }
  // Of a token's row: of all heads, and of those of one rank.
  std::size_t row() const { return cache_.shape(0, Kind::kK).row_bytes(); }
  std::size_t part() const { return row() / ranks(); }
  std::size_t tensor() const { return block_ * part(); }
  std::size_t file_bytes() const { return 2 * cache_.layers.size() * tensor(); }
  std::size_t offset(std::size_t layer, Kind kind) const {
    return (layer + (kind == Kind::kV ? cache_.layers.size() : 0)) * tensor();
  }

  std::string file(const std::string& key, std::size_t rank) const {
    std::string model = store_.model_name;
    std::replace(model.begin(), model.end(), '/', '-');
    if (engine_ == Engine::kHicache) {
      return fmt::format("{}_{}_{}_{}.bin", key, model, rank, ranks());
    }
    return fmt::format("{}@{}@{}@{}@{}.data", model, ranks(), rank, key, dtype_word(cache_.dtype));
  }
  std::vector<EngineKey> keys(TokenIds ids) const {
    return engine_keys(key_family_by_name(engine_ == Engine::kHicache ? "hicache" : "lmcache"), ids,
                       static_cast<std::int64_t>(block_), store_.seed);
  }

 private:
  Engine engine_;
  const LayoutCache& cache_;
  StoreOptions store_;
  std::size_t block_;
};

class PagesWriter : public LayoutWriter {
 public:
  PagesWriter(Engine engine, const LayoutCache& cache, const LayoutTarget& target,
              const LayoutOptions& options)
      : cache_(cache),
        store_(target.folder),
        temporary_(fmt::format("{}/kvconvert.{}.tmp", store_.path(), getpid())),
        overwrite_(target.overwrite),
        pages_(engine, cache_, named(*options.store), options.blocks->tokens) {
    const std::vector<EngineKey> keys = pages_.keys(cache_.tokens);
    for (const EngineKey& key : keys) {
      for (std::size_t rank = 0; rank < pages_.ranks(); ++rank) {
        files_.push_back(pages_.file(key.key, rank));
        if (!overwrite_ && std::filesystem::exists(store_.path() + "/" + files_.back())) {
          fail(ErrorKind::kIo, "{}/{}: exists already; -f overwrites it", store_.path(),
               files_.back());
        }
      }
    }
    if (mkdir(temporary_.c_str(), 0777) != 0) fail_errno("create " + temporary_);
  }
  ~PagesWriter() override {
    std::error_code ignored;
    std::filesystem::remove_all(temporary_, ignored);
  }

  void write_layer(std::size_t layer, ByteView keys, ByteView values) override {
    for (std::size_t i = 0; i < files_.size(); ++i) {
      const std::string name = temporary_ + "/" + files_[i];
      const Fd fd(open(name.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
      if (fd.number() < 0) fail_errno("create " + name);
      const std::size_t block = i / pages_.ranks(), rank = i % pages_.ranks();
      put(fd, name, pages_.offset(layer, Kind::kK), part_of(keys, block, rank));
      put(fd, name, pages_.offset(layer, Kind::kV), part_of(values, block, rank));
    }
  }

  // Each file appears whole; those of a prompt one after another, its first block last: a reader
  // finds nothing or what it can use.
  void commit() override {
    for (auto file = files_.rbegin(); file != files_.rend(); ++file) {
      const std::string from = temporary_ + "/" + *file, to = store_.path() + "/" + *file;
      const unsigned flags = overwrite_ ? 0u : static_cast<unsigned>(RENAME_NOREPLACE);
      if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) != 0) {
        fail_errno("rename to " + to);
      }
    }
  }

 private:
  StoreOptions named(StoreOptions store) const {
    if (store.model_name.empty()) {
      fail_usage("--model-name: give the name that the engine was started with");
    }
    return store;
  }

  ByteView part_of(ByteView rows, std::size_t block, std::size_t rank) {
    const std::size_t row = pages_.row(), part = pages_.part(), tokens = pages_.block();
    rows = rows.subspan(block * tokens * row, tokens * row);
    if (part == row) return rows;
    part_.resize(tokens * part);
    for (std::size_t i = 0; i < tokens; ++i) {
      std::memcpy(&part_[i * part], &rows[i * row + rank * part], part);
    }
    return part_;
  }

  static void put(const Fd& fd, const std::string& name, std::size_t at, ByteView bytes) {
    while (!bytes.empty()) {
      const ssize_t got = pwrite(fd.number(), bytes.data(), bytes.size(), static_cast<off_t>(at));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail_errno("write " + name);
      at += static_cast<std::size_t>(got);
      bytes = bytes.subspan(static_cast<std::size_t>(got));
    }
  }

  const LayoutCache cache_;
  StoreFolder store_;
  std::string temporary_;
  bool overwrite_;
  Pages pages_;
  std::vector<std::string> files_;  // of a block those of all ranks
  Bytes part_;
};

class PagesReader : public LayoutReader {
 public:
  // Which blocks there are is known when the tokens are.
  PagesReader(Engine engine, const std::string& path, const LayoutCache& wanted,
              const LayoutOptions& options)
      : path_(path) {
    if (options.store->model_name.empty()) {
      fail_usage("--model-name: give the name that the engine was started with");
    }
    cache_ = wanted;
    cache_.dtype = options.dtype.value_or(DType::kBF16);
    pages_.emplace(engine, cache_, *options.store, options.blocks->tokens);
  }

  void take_tokens(std::span<const std::int32_t> ids) override {
    for (const EngineKey& key : pages_->keys(ids)) {
      bool whole = true;
      for (std::size_t rank = 0; rank < pages_->ranks() && whole; ++rank) {
        const std::string name = path_ + "/" + pages_->file(key.key, rank);
        whole = std::filesystem::exists(name);
        if (whole) files_.push_back(map(name));
      }
      if (!whole) break;
      cache_.token_count = key.tokens;
    }
    if (cache_.token_count == 0) {
      fail_input("{}: has no file of the first block of these tokens; kvhash prints its key",
                 path_);
    }
    LayoutReader::take_tokens(ids);
  }

  void read_layer(std::size_t layer, std::span<std::byte> keys,
                  std::span<std::byte> values) override {
    const std::size_t row = pages_->row(), part = pages_->part();
    for (const Kind kind : {Kind::kK, Kind::kV}) {
      const std::span<std::byte> to = kind == Kind::kK ? keys : values;
      for (std::size_t token = 0; token < pages_->blocks() * pages_->block(); ++token) {
        const std::size_t block = token / pages_->block();
        const std::size_t at = pages_->offset(layer, kind) + token % pages_->block() * part;
        for (std::size_t rank = 0; rank < pages_->ranks(); ++rank) {
          std::memcpy(&to[token * row + rank * part],
                      &files_[block * pages_->ranks() + rank].bytes()[at], part);
        }
      }
    }
  }

 private:
  Mapping map(const std::string& name) const {
    const Input input = Input::open(name);
    if (input.size_bytes() != pages_->file_bytes()) {
      fail_input("{}: {} bytes, where the model's geometry and --block {} need {}", name,
                 input.size_bytes().value_or(0), pages_->block(), pages_->file_bytes());
    }
    return input.map();
  }

  std::string path_;
  std::optional<Pages> pages_;
  std::vector<Mapping> files_;
};

template <Engine kEngine>
Layout layout_of(std::string_view name, std::int64_t block) {
  return {.name = name,
          .folder = true,
          .needs_tokens = true,
          .asks_for_tokens = true,
          .from_first_token = true,
          .blocks = BlockOptions{.tokens = block, .cpu = true},
          .store = true,
          .dtypes = {DType::kBF16, DType::kF16, DType::kF32},
          .writer = [](const LayoutCache& cache, const LayoutTarget& target,
                       const LayoutOptions& options) -> std::unique_ptr<LayoutWriter> {
            return std::make_unique<PagesWriter>(kEngine, cache, target, options);
          },
          .reader = [](const std::string& path, const LayoutCache& wanted,
                       const LayoutOptions& options) -> std::unique_ptr<LayoutReader> {
            return std::make_unique<PagesReader>(kEngine, path, wanted, options);
          }};
}

}  // namespace

Layout hicache_layout() { return layout_of<Engine::kHicache>("hicache", 64); }
Layout lmcache_layout() { return layout_of<Engine::kLmcache>("lmcache", 256); }

}  // namespace kv
