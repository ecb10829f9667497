#pragma once
// Small members for tests: every value is a function of its place, so nothing random can drift.

#include "kv/container/reader.hh"
#include "kv/container/writer.hh"

#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace kv::samples {

// A memfd that Input and Output open by name.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes = {}) : fd_(memfd_create("kv", 0)) {
    if (fd_.number() < 0) fail_errno("memfd_create");
    for (std::size_t done = 0; done < bytes.size();) {
      const ssize_t got = write(fd_.number(), bytes.data() + done, bytes.size() - done);
      if (got < 0) fail_errno("write");
      done += static_cast<std::size_t>(got);
    }
  }
  std::string path() const { return fmt::format("/proc/self/fd/{}", fd_.number()); }
  Input input() const { return Input::open(path()); }

 private:
  Fd fd_;
};

// What `write` sends through a Writer, as bytes.
template <typename F>
std::string written(F&& write) {
  const std::string path = fmt::format("/tmp/kv_samples_{}", getpid());
  {
    Output output = Output::create(path, true);
    Writer writer(output);
    write(writer);
    output.commit();
  }
  const Bytes bytes = Input::open(path).read_all(1u << 30);
  unlink(path.c_str());
  return std::string(as_text(bytes));
}

inline Meta small_meta(std::int64_t tokens = 5, DType dtype = DType::kBF16) {
  Meta meta;
  meta.model.name = "sample";
  meta.model.architecture = "llama";
  meta.model.fingerprint = "00112233445566778899aabbccddeeff";
  meta.dtype = dtype;
  meta.token_count = tokens;
  for (std::uint32_t layer = 0; layer < 2; ++layer) {
    meta.layers.push_back(
        {.index = layer, .geometry = {.kv_heads = 2, .k_dim = 3, .v_dim = 2, .rope = {}}});
  }
  return meta;
}

inline std::vector<std::int32_t> ids(std::int64_t tokens) {
  std::vector<std::int32_t> all;
  for (std::int64_t i = 0; i < tokens; ++i) all.push_back(static_cast<std::int32_t>(i * 37 % 101));
  return all;
}

// Bytes of a tensor: small numbers in any dtype.
inline Bytes values(std::size_t size_bytes, std::uint32_t seed) {
  Bytes bytes(size_bytes);
  for (std::size_t i = 0; i < size_bytes; ++i) {
    bytes[i] = static_cast<std::byte>((i * 7 + seed * 13) % 120);
  }
  return bytes;
}

// All tensors of `meta`, cut into tiles of `tile_tokens`.
inline void write_tensors(Writer& writer, const Meta& meta, std::uint32_t tile_tokens = 1u << 20) {
  std::uint32_t seed = 0;
  for (const auto& [layer, kind] : meta.tensors()) {
    for (std::int64_t begin = 0; begin < meta.token_count; begin += tile_tokens) {
      format::TileHeader tile;
      tile.kind = kind;
      tile.dtype = meta.dtype;
      tile.layer = layer;
      tile.token_begin = static_cast<std::uint64_t>(begin);
      tile.token_count =
          static_cast<std::uint32_t>(std::min<std::int64_t>(tile_tokens, meta.token_count - begin));
      const std::size_t size = tile.token_count * meta.shape_of(tile).row_bytes();
      writer.write_tile(tile, values(size, ++seed));
    }
  }
}

inline void write_member(Writer& writer, const Meta& meta, std::uint32_t tile_tokens = 1u << 20) {
  writer.begin_member(meta, ids(meta.token_count));
  write_tensors(writer, meta, tile_tokens);
  writer.end_member();
}

}  // namespace kv::samples
