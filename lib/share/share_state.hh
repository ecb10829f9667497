#pragma once
// A cache being shared: what its two threads keep and hand each other. Private to the folder.

#include "kv/codec/decoded_source.hh"
#include "kv/share/share.hh"

#include <ATen/core/Tensor.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>

namespace kv {

// Rows of a layer on their way out, in the result's dtype: a tile, or all of them.
struct SharedRows {
  format::TileHeader header;
  Bytes bytes;
};

// One thread reads and writes, the caller's computes; what they hand each other is under `lock`.
struct Share::State {
  using Clock = std::chrono::steady_clock;

  const Session& session;
  ShareOptions options;
  std::string name;
  std::unique_ptr<TileSource> source;
  std::optional<DecodedSource> decoded;  // over it, to be read through
  std::unique_ptr<TileSource>
      hidden_source;  // of the same file, where E can be had before the rest
  Meta from, to;
  std::vector<std::int32_t> tokens;
  Clock::time_point began;
  std::uint64_t read_bytes = 0;

  std::mutex lock;
  std::condition_variable told;
  std::vector<float> hidden;  // E, once it is whole
  bool hidden_there = false;
  std::deque<SharedRows> computed;  // of the group, in order
  bool all_computed = false;
  bool given_up = false;     // by the thread that computes
  std::exception_ptr error;  // of the thread that reads
  ShareReport report;

  State(const Session& of, ShareOptions chosen) : session(of), options(std::move(chosen)) {}

  bool needs_hidden() const {
    return options.group.count() > 0 && options.group.first > 0 && !options.hidden_from;
  }
  bool in_group(std::uint32_t layer) const {
    return layer >= options.group.first && layer < options.group.end;
  }

  void open(Input input);
  void check(const Meta& meta) const;
  void describe();

  // A file with an index is read in two stretches, without the group between them.
  bool seeks() const { return source->keeps_tiles() && options.group.count() > 0; }
  void read_stretch(DecodedSource& from_source, const TileSource& counted, Writer& writer,
                    std::deque<SharedRows>& held);
  void read_and_write(Writer& writer);
  void read_hidden_first();
  void take(const Tile& tile, Writer& writer, std::deque<SharedRows>& held);
  void add_hidden(const Tile& tile);
  double since() const { return std::chrono::duration<double>(Clock::now() - began).count(); }
  void pace(std::uint64_t bytes);
  SharedRows rows_of(const Tile& tile) const;
  void write(const SharedRows& rows, Writer& writer) const;
  void write_computed(Writer& writer, bool wait);

  at::Tensor first_hidden();
  void hand_over(std::int64_t layer, const KvCache& cache);
  void compute();
};

}  // namespace kv
