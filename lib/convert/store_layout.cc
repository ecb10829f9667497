#include "block_store.hh"
#include "kv/base/new_folder.hh"
#include "piece_writer.hh"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

namespace kv {
namespace {

using format::Kind;
namespace fs = std::filesystem;

// One device's heads of a block's rows, from or to their places. `base` is what offset 0 is.
struct Rows {
  const BlockStore& store;
  std::size_t block, device;

  template <typename Copy>
  void each(const StorePlace& place, std::size_t base, const Copy& copy) const {
    const std::size_t row = store.row_bytes(), token = row * store.heads() * store.devices();
    const std::size_t first = block * store.block() * token + device * store.heads() * row;
    const bool whole = place.head_stride == row;  // all heads of a token
    if (whole && store.devices() == 1 && place.token_stride == token) {
      copy(first, place.offset - base, store.block() * token);
      return;
    }
    const std::size_t pieces = whole ? 1 : store.heads(), size = row * store.heads() / pieces;
    for (std::size_t t = 0; t < store.block(); ++t) {
      for (std::size_t h = 0; h < pieces; ++h) {
        copy(first + t * token + h * row,
             place.offset - base + h * place.head_stride + t * place.token_stride, size);
      }
    }
  }
};

void put(const Fd& fd, const std::string& name, std::size_t at, ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t got = pwrite(fd.number(), bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_errno("write " + name);
    at += static_cast<std::size_t>(got);
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
}

// Removed with all in it.
struct TemporaryFolder {
  explicit TemporaryFolder(std::string name) : path(std::move(name)) {
    if (mkdir(path.c_str(), 0777) != 0) fail_errno("create " + path);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  std::string path;
};

class StoreWriter : public LayoutWriter {
 public:
  StoreWriter(const LayoutCache& cache, const LayoutTarget& target, const LayoutOptions& options,
              MakeStore make)
      : cache_(cache),
        folder_(target.folder),
        overwrite_(target.overwrite),
        store_(make(cache_, options)),
        pieces_(target.threads) {
    for (const EngineKey& key : store_->keys(cache_.tokens)) {
      for (std::string& name : store_->files(key)) files_.push_back(std::move(name));
      for (auto& [name, bytes] : store_->beside(key)) beside_.emplace_back(name, std::move(bytes));
    }
    for (const std::string& name : files_) require_new(name);
    temporary_.emplace(fmt::format("{}/kvconvert.{}.tmp", folder_.path(), getpid()));
    const Bytes header = store_->header();
    for (std::size_t i = 0; i < files_.size(); ++i) {
      const Fd fd = open_file(i, O_CREAT | O_EXCL);
      put(fd, files_[i], 0, header);
      if (ftruncate(fd.number(), static_cast<off_t>(header.size() + store_->file_bytes())) != 0) {
        fail_errno("write " + files_[i]);
      }
    }
    header_ = header.size();
  }

  void write_layer(std::size_t layer, ByteView keys, ByteView values) override {
    const std::size_t of_block = files_.size() / blocks();
    pieces_.each(blocks() * store_->devices(), [&](std::size_t i) {
      const Rows rows = {*store_, i / store_->devices(), i % store_->devices()};
      const StorePlace k = store_->place(layer, Kind::kK, rows.device);
      const StorePlace v = store_->place(layer, Kind::kV, rows.device);
      const std::size_t file = rows.block * of_block + k.file;
      const Fd fd = open_file(file, 0);
      thread_local Bytes buffer;
      const std::size_t size = store_->block() * store_->heads() * store_->row_bytes();
      const auto gather = [&](const StorePlace& place, std::size_t base, ByteView from) {
        rows.each(place, base, [&](std::size_t at, std::size_t to, std::size_t count) {
          std::memcpy(&buffer[to], &from[at], count);
        });
      };
      buffer.resize(2 * size);
      if (v.offset < k.offset + size) {  // by turns
        gather(k, k.offset, keys);
        gather(v, k.offset, values);
        put(fd, files_[file], header_ + k.offset, buffer);
        return;
      }
      gather(k, k.offset, keys);
      put(fd, files_[file], header_ + k.offset, std::span(buffer).first(size));
      gather(v, v.offset, values);
      put(fd, files_[file], header_ + v.offset, std::span(buffer).first(size));
    });
  }

  // Each file appears whole; those of a prompt one after another, its first block last: a reader
  // finds nothing or what it can use.
  void commit() override {
    if (const auto description = store_->description()) {
      if (!fs::exists(folder_.path() + "/" + description->first)) {
        write_beside(description->first, description->second);
      }
    }
    for (const auto& [name, bytes] : beside_) write_beside(name, bytes);
    for (std::size_t i = files_.size(); i-- > 0;) {
      const std::string to = path_of(files_[i]);
      const unsigned flags = overwrite_ ? 0u : static_cast<unsigned>(RENAME_NOREPLACE);
      if (renameat2(AT_FDCWD, temporary_of(i).c_str(), AT_FDCWD, to.c_str(), flags) != 0) {
        fail_errno("rename to " + to);
      }
    }
  }

 private:
  std::size_t blocks() const {
    return static_cast<std::size_t>(cache_.token_count) / store_->block();
  }
  void require_new(const std::string& name) const {
    if (overwrite_ || !fs::exists(folder_.path() + "/" + name)) return;
    fail(ErrorKind::kIo, "{}/{}: exists already; -f overwrites it", folder_.path(), name);
  }
  // Where a file goes, in a folder that is there.
  std::string path_of(const std::string& name) const {
    const std::string path = folder_.path() + "/" + name;
    std::error_code error;
    fs::create_directories(fs::path(path).parent_path(), error);
    if (error) fail(ErrorKind::kIo, "{}: cannot create its folder: {}", path, error.message());
    return path;
  }
  void write_beside(const std::string& name, ByteView bytes) const {
    Output output = Output::create(path_of(name), true);
    output.write(bytes);
    output.commit();
  }
  std::string temporary_of(std::size_t file) const {
    return fmt::format("{}/{}", temporary_->path, file);
  }
  Fd open_file(std::size_t file, int flags) const {
    Fd fd(open(temporary_of(file).c_str(), O_WRONLY | O_CLOEXEC | flags, 0666));
    if (fd.number() < 0) fail_errno("create " + temporary_of(file));
    return fd;
  }

  const LayoutCache cache_;
  StoreFolder folder_;
  std::optional<TemporaryFolder> temporary_;
  bool overwrite_;
  std::unique_ptr<BlockStore> store_;
  PieceWriter pieces_;
  std::size_t header_ = 0;
  std::vector<std::string> files_;  // of a block those of all devices
  std::vector<std::pair<std::string, Bytes>> beside_;
};

class StoreReader : public LayoutReader {
 public:
  // Which blocks there are is known when the tokens are.
  StoreReader(const std::string& path, const LayoutCache& wanted, const LayoutOptions& options,
              MakeStore make)
      : path_(path) {
    cache_ = wanted;
    cache_.dtype = options.dtype.value_or(DType::kBF16);
    store_ = make(cache_, options);
  }

  void take_tokens(std::span<const std::int32_t> ids) override {
    for (const EngineKey& key : store_->keys(ids)) {
      const std::vector<std::string> names = store_->files(key);
      const bool whole = std::all_of(names.begin(), names.end(), [&](const std::string& name) {
        return fs::exists(path_ + "/" + name);
      });
      if (!whole) break;
      for (const std::string& name : names) add(path_ + "/" + name);
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
    const std::size_t blocks = static_cast<std::size_t>(cache_.token_count) / store_->block();
    const std::size_t of_block = files_.size() / blocks;
    for (std::size_t i = 0; i < blocks * store_->devices(); ++i) {
      const Rows rows = {*store_, i / store_->devices(), i % store_->devices()};
      for (const Kind kind : {Kind::kK, Kind::kV}) {
        const StorePlace place = store_->place(layer, kind, rows.device);
        const File& file = files_[rows.block * of_block + place.file];
        const ByteView from = file.mapping.bytes().subspan(file.skip);
        const std::span<std::byte> to = kind == Kind::kK ? keys : values;
        rows.each(place, 0, [&](std::size_t at, std::size_t in_file, std::size_t count) {
          std::memcpy(&to[at], &from[in_file], count);
        });
      }
    }
  }

 private:
  struct File {
    Mapping mapping;
    std::size_t skip;
  };
  void add(const std::string& name) {
    const Input input = Input::open(name);
    if (!input.size_bytes()) fail_input("{}: must be a regular file", name);
    Mapping mapping = input.map();
    const std::size_t skip = store_->checked(name, mapping.bytes());
    files_.push_back({std::move(mapping), skip});
  }

  std::string path_;
  std::unique_ptr<BlockStore> store_;
  std::vector<File> files_;
};

}  // namespace

std::unique_ptr<LayoutWriter> store_writer(const LayoutCache& cache, const LayoutTarget& target,
                                           const LayoutOptions& options, MakeStore make) {
  return std::make_unique<StoreWriter>(cache, target, options, make);
}
std::unique_ptr<LayoutReader> store_reader(const std::string& path, const LayoutCache& wanted,
                                           const LayoutOptions& options, MakeStore make) {
  return std::make_unique<StoreReader>(path, wanted, options, make);
}

}  // namespace kv
