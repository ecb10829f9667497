#pragma once
// Output that is made in pieces by several threads. Private to the folder.

#include "kv/base/file.hh"
#include "kv/codec/workers.hh"

namespace kv {

class PieceWriter {
 public:
  explicit PieceWriter(int threads) : workers_(threads) {}

  // Makes the bytes from `begin` of what is written; called by several threads at a time.
  using Fill = std::function<void(std::size_t begin, std::span<std::byte> to)>;
  // `size` bytes from `at` on, in pieces of whole units, which stay in a processor's cache until
  // the system has them. Into what has no places, `at` must be what was written so far.
  void write(Output& output, std::uint64_t at, std::size_t size, std::size_t unit,
             const Fill& fill);
  // Of independent things one each.
  void each(std::size_t count, const std::function<void(std::size_t)>& work) {
    workers_.each(count, work);
  }

 private:
  Workers workers_;
};

}  // namespace kv
