#pragma once
// Writing kv(5), also to a pipe: nothing is patched afterwards.

#include "kv/base/file.hh"
#include "kv/container/importance.hh"

#include <memory>
#include <vector>

namespace kv {

// Writes members into an Output that the caller commits. Order is the format's: begin, tokens,
// tiles ascending, end. Wrong order, a missing tile or a wrong size is a programmer's error and
// throws std::logic_error, so no tool can write a file that the reader refuses.
class Writer {
 public:
  explicit Writer(Output& output);
  ~Writer();

  // `tokens` is empty or has meta.token_count ids. `importance` is empty or has
  // importance_size_bytes(meta) bytes over 0; it is known here because the member's header names
  // the version that has it.
  void begin_member(const Meta& meta, std::span<const std::int32_t> tokens,
                    std::span<const std::uint8_t> importance = {});
  // `data` is the payload behind the tile header, raw or coded.
  void write_tile(const format::TileHeader& tile, ByteView data);
  // A raw tensor of all tokens, cut into tiles of at most kTileTokens and kTileBytes: what a reader
  // of a few tokens has to read.
  void write_raw(format::Kind kind, std::uint32_t layer, const TensorView& tensor);
  // An optional frame with a type of the caller's; skipped by readers that do not know it.
  void write_optional(std::array<char, 4> type, ByteView payload);
  // INDX and END.
  void end_member();

  static constexpr std::int64_t kTileTokens = 1024;
  static constexpr std::uint64_t kTileBytes = 16u << 20;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kv
